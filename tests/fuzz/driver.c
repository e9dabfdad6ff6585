/* libFuzzer's side: starts Python once, sets up the door that NFQFW_FUZZ_DOOR names (see setting.py), then calls it for each input without an interpreter in between. */
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

static int (*story)(const uint8_t *, size_t);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    Py_Initialize();
    PyRun_SimpleString("import sys; sys.path.insert(0, '.')");
    PyObject *setting = PyImport_ImportModule("tests.fuzz.setting");
    PyObject *capsule = setting ? PyObject_CallMethod(setting, "capsule", "s", getenv("NFQFW_FUZZ_DOOR")) : NULL;
    if (!capsule) {
        PyErr_Print();
        return 1;
    }
    story = (int (*)(const uint8_t *, size_t))PyCapsule_GetPointer(capsule, "nfqfw.fuzz");
    return story ? 0 : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return story(data, size);
}
