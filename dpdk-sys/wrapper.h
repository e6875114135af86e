/* The headers bound, and shims for what no binding can express: macros, and variables of the
 * calling thread. All shims are static inline, so bindgen wraps them as it does DPDK's own. */
#pragma once

#include <stdio.h>

#include <rte_cpuflags.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_pdump.h>
#include <rte_power_intrinsics.h>
#include <rte_ring.h>
#include <rte_version.h>

/* rte_errno is thread-local through a macro. */
static inline int shim_errno(void) { return rte_errno; }

/* stderr is a macro on some C libraries. Sends all of DPDK's log lines there. */
static inline int shim_log_to_stderr(void) { return rte_openlog_stream(stderr); }

/* rte_pktmbuf_mtod is a macro; here as the oracle of the differential tests. */
static inline void *shim_mbuf_data(struct rte_mbuf *m) { return rte_pktmbuf_mtod(m, void *); }

/* struct rte_cpu_intrinsics is bit-fields. */
static inline void shim_cpu_can(int *monitor, int *pause, int *monitor_multi)
{
	struct rte_cpu_intrinsics can = {0};
	rte_cpu_get_intrinsics_support(&can);
	*monitor = can.power_monitor;
	*pause = can.power_pause;
	*monitor_multi = can.power_monitor_multi;
}

/* struct rte_eth_link is bit-fields, laid out differently from one DPDK to the next. */
static inline int shim_link(uint16_t port, uint32_t *speed_mbps, int *up)
{
	struct rte_eth_link link = {0};
	int result = rte_eth_link_get_nowait(port, &link);
	*speed_mbps = link.link_speed;
	*up = link.link_status == RTE_ETH_LINK_UP;
	return result;
}
