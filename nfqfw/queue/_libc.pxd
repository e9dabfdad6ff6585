"""The few libc and kernel calls of the transports, for nogil code.  Header-only."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from posix.types cimport pid_t


cdef extern from * nogil:
    """
    #include <errno.h>
    #include <poll.h>
    #include <sched.h>
    #include <sys/eventfd.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <netinet/in.h>
    #include <linux/netlink.h>
    #include <time.h>
    #include <unistd.h>
    static inline uint64_t nfqfw_clock(int which)
    {
        struct timespec t;
        clock_gettime(which, &t);
        return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
    }
    static inline int nfqfw_errno(void) { return errno; }
    #define nfqfw_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
    #define nfqfw_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
    #define nfqfw_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
    #define nfqfw_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)
    """
    uint64_t nfqfw_clock(int which)                         # ns
    int nfqfw_errno()
    uint32_t load32 "nfqfw_load"(uint32_t* p)               # sequentially consistent: must 5 stands on their order
    void store32 "nfqfw_store"(uint32_t* p, uint32_t value)
    uint64_t load64 "nfqfw_load"(uint64_t* p)
    void fence "nfqfw_fence"()
    uint64_t add64 "nfqfw_add"(uint64_t* p, uint64_t value)

    enum: CLOCK_MONOTONIC
    enum: CLOCK_REALTIME
    enum: EAGAIN
    enum: EINTR
    enum: ENOBUFS
    enum: ENOMEM
    enum: EPERM
    enum: EBUSY
    enum: POLLIN
    enum: EFD_CLOEXEC
    enum: EFD_NONBLOCK
    enum: AF_INET
    enum: AF_INET6
    enum: AF_NETLINK
    enum: SOCK_RAW
    enum: SOCK_CLOEXEC
    enum: SOL_SOCKET
    enum: SO_MARK
    enum: SO_RCVBUF
    enum: SO_RCVBUFFORCE
    enum: SO_SNDBUFFORCE
    enum: SO_RCVTIMEO
    enum: SOL_NETLINK
    enum: NETLINK_NETFILTER
    enum: NETLINK_NO_ENOBUFS
    enum: IPPROTO_IP
    enum: IPPROTO_IPV6
    enum: IPPROTO_RAW
    enum: IP_PKTINFO
    enum: IPV6_PKTINFO
    enum: MSG_DONTWAIT
    enum: MSG_TRUNC

    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass
    struct sockaddr_nl:
        unsigned short nl_family
        uint32_t nl_pid
        uint32_t nl_groups
    struct in_addr:
        uint32_t s_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in:
        unsigned short sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        unsigned short sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    struct in_pktinfo:
        int ipi_ifindex
    struct in6_pktinfo:
        in6_addr ipi6_addr
        unsigned int ipi6_ifindex
    struct iovec:
        void* iov_base
        size_t iov_len
    struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    struct mmsghdr:
        msghdr msg_hdr
        unsigned int msg_len
    struct cmsghdr:
        size_t cmsg_len
        int cmsg_level
        int cmsg_type
    struct pollfd:
        int fd
        short events
        short revents
    struct timespec:
        int64_t tv_sec
        long tv_nsec
    struct timeval:
        int64_t tv_sec
        long tv_usec

    int socket(int family, int kind, int protocol)
    int bind(int fd, const sockaddr* address, socklen_t n)
    int connect(int fd, const sockaddr* address, socklen_t n)
    int getsockname(int fd, sockaddr* address, socklen_t* n)
    int setsockopt(int fd, int level, int name, const void* value, socklen_t n)
    int getsockopt(int fd, int level, int name, void* value, socklen_t* n)
    int recvmmsg(int fd, mmsghdr* messages, unsigned int n, int flags, timespec* timeout)
    int sendmmsg(int fd, mmsghdr* messages, unsigned int n, int flags)
    ssize_t recv(int fd, void* at, size_t n, int flags)
    ssize_t send(int fd, const void* at, size_t n, int flags)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    int poll(pollfd* fds, unsigned long n, int timeout_ms)
    int eventfd(unsigned int initial, int flags)
    int nanosleep(const timespec* duration, timespec* rest)
    ssize_t read(int fd, void* at, size_t n)
    ssize_t write(int fd, const void* at, size_t n)
    int close(int fd)
    unsigned char* CMSG_DATA(cmsghdr* message)
    size_t CMSG_SPACE(size_t n)
    size_t CMSG_LEN(size_t n)
