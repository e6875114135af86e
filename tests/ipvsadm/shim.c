/*
 * Loaded into Debian's ipvsadm (LD_PRELOAD): answers the socket options of IPVS, so that the program runs to its end
 * on a kernel without IPVS. Whatever it sets is accepted. What it lists is read from the file SHIM_TABLE, lines of
 *
 *   S protocol address port scheduler flags timeout netmask figures
 *   D address port conn_flags weight upper lower active inactive persistent figures      (of the service above)
 *
 * with numbers in decimal, addresses in dots, and ten figures: conns inpkts outpkts inbytes outbytes, and the same a
 * second. SHIM_CONNECTIONS is read in place of /proc/net/ip_vs_conn. IPv4 only: so are the socket options.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <linux/ip_vs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define SERVICES_MAX 64
#define SERVERS_MAX 64

static struct ip_vs_service_entry services[SERVICES_MAX];
static struct ip_vs_dest_entry servers[SERVICES_MAX][SERVERS_MAX];
static unsigned count;

static void figures(FILE *file, struct ip_vs_stats_user *to)
{
    unsigned long long n[10] = { 0 };
    for (int i = 0; i < 10; i++)
        if (fscanf(file, "%llu", &n[i]) != 1)
            abort();
    to->conns = n[0]; to->inpkts = n[1]; to->outpkts = n[2]; to->inbytes = n[3]; to->outbytes = n[4];
    to->cps = n[5]; to->inpps = n[6]; to->outpps = n[7]; to->inbps = n[8]; to->outbps = n[9];
}

static void load(void)
{
    static int is_loaded;
    const char *path = getenv("SHIM_TABLE");
    if (is_loaded++ || !path)
        return;
    FILE *file = fopen(path, "r");
    if (!file)
        abort();
    char kind, address[64], mask[64];
    unsigned port, protocol;
    while (fscanf(file, " %c", &kind) == 1 && count <= SERVICES_MAX) {
        if (kind == 'S' && count < SERVICES_MAX) {
            struct ip_vs_service_entry *s = &services[count++];
            if (fscanf(file, "%u %63s %u %15s %u %u %63s", &protocol, address, &port, s->sched_name, &s->flags,
                       &s->timeout, mask) != 7)
                abort();
            s->protocol = protocol;
            s->port = htons(port);
            s->addr = inet_addr(address);
            s->netmask = inet_addr(mask);
            figures(file, &s->stats);
        } else if (kind == 'D' && count > 0 && services[count - 1].num_dests < SERVERS_MAX) {
            struct ip_vs_dest_entry *d = &servers[count - 1][services[count - 1].num_dests++];
            if (fscanf(file, "%63s %u %u %d %u %u %u %u %u", address, &port, &d->conn_flags, &d->weight,
                       &d->u_threshold, &d->l_threshold, &d->activeconns, &d->inactconns, &d->persistconns) != 9)
                abort();
            d->addr = inet_addr(address);
            d->port = htons(port);
            figures(file, &d->stats);
        } else {
            abort();
        }
    }
    fclose(file);
}

static const struct ip_vs_service_entry *find(const struct ip_vs_get_dests *asked, unsigned *place)
{
    for (*place = 0; *place < count; ++*place) {
        const struct ip_vs_service_entry *s = &services[*place];
        if (s->protocol == asked->protocol && s->addr == asked->addr && s->port == asked->port)
            return s;
    }
    return NULL;
}

static int answer(int name, void *value, socklen_t length)
{
    unsigned place;
    load();
    switch (name) {
    case IP_VS_SO_GET_INFO: {
        struct ip_vs_getinfo info = { .version = IP_VS_VERSION_CODE, .size = 4096, .num_services = count };
        memcpy(value, &info, sizeof info);
        return 0;
    }
    case IP_VS_SO_GET_SERVICES: {
        struct ip_vs_get_services *to = value;
        to->num_services = count;
        memcpy(to->entrytable, services, count * sizeof services[0]);
        return 0;
    }
    case IP_VS_SO_GET_SERVICE: {
        struct ip_vs_service_entry *to = value;
        struct ip_vs_get_dests asked = { .protocol = to->protocol, .addr = to->addr, .port = to->port };
        const struct ip_vs_service_entry *s = find(&asked, &place);
        if (!s)
            return errno = ESRCH, -1;
        *to = *s;
        return 0;
    }
    case IP_VS_SO_GET_DESTS: {
        struct ip_vs_get_dests *to = value;
        const struct ip_vs_service_entry *s = find(to, &place);
        if (!s)
            return errno = ESRCH, -1;
        to->num_dests = s->num_dests;
        memcpy(to->entrytable, servers[place], s->num_dests * sizeof servers[0][0]);
        return 0;
    }
    case IP_VS_SO_GET_TIMEOUT: {
        struct ip_vs_timeout_user timeouts = { .tcp_timeout = 900, .tcp_fin_timeout = 120, .udp_timeout = 300 };
        memcpy(value, &timeouts, sizeof timeouts);
        return 0;
    }
    case IP_VS_SO_GET_DAEMON:
        memset(value, 0, 2 * sizeof(struct ip_vs_daemon_user));
        return 0;
    default:
        memset(value, 0, length);
        return 0;
    }
}

static int is_ours(int level, int name)
{
    return level == IPPROTO_IP && name >= IP_VS_BASE_CTL && name < IP_VS_BASE_CTL + 16;
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
{
    static int (*real)(int, int, int, void *, socklen_t *);
    if (is_ours(level, name))
        return answer(name, value, *length);
    if (!real)
        real = dlsym(RTLD_NEXT, "getsockopt");
    return real(fd, level, name, value, length);
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    static int (*real)(int, int, int, const void *, socklen_t);
    if (is_ours(level, name))
        return 0;
    if (!real)
        real = dlsym(RTLD_NEXT, "setsockopt");
    return real(fd, level, name, value, length);
}

FILE *fopen(const char *path, const char *mode)
{
    static FILE *(*real)(const char *, const char *);
    const char *connections = getenv("SHIM_CONNECTIONS");
    if (!real)
        real = dlsym(RTLD_NEXT, "fopen");
    return real(connections && !strcmp(path, "/proc/net/ip_vs_conn") ? connections : path, mode);
}
