//! Generates the bindings from the DPDK headers of the distribution.
//!
//! Only what the lists below name is bound: the whole of DPDK would be four times as much code, and
//! some of its packed structs do not compile in Rust. `static inline` functions of the headers get
//! a C wrapper each (`wrap_static_fns`), compiled here by whatever `cc` finds.

use std::path::{Path, PathBuf};
use std::process::Command;

use bindgen::callbacks::{IntKind, ParseCallbacks};

const FUNCTIONS: &str = "shim_.*\
    |rte_(version|strerror|openlog_stream|log_set_global_level)\
    |rte_eal_(init|cleanup|has_hugepages|iova_mode|get_runtime_dir)\
    |rte_thread_(un)?register|rte_lcore_id\
    |rte_dev_(probe|remove)\
    |rte_eth_dev_(info_get|configure|adjust_nb_rx_tx_desc|start|stop|close|get_port_by_name\
        |is_valid_port|socket_id|set_mtu|get_mtu|get_name_by_port)\
    |rte_eth_dev_rss_(hash_conf_get|hash_update|reta_query|reta_update)\
    |rte_eth_(rx|tx)_(queue_setup|burst)|rte_eth_call_(rx|tx)_callbacks\
    |rte_eth_(add|remove)_(rx|tx)_callback\
    |rte_eth_link_get_nowait|rte_eth_macaddr_get|rte_eth_stats_(get|reset)\
    |rte_eth_promiscuous_(enable|disable|get)|rte_eth_allmulticast_(enable|disable|get)\
    |rte_mempool_(free|avail_count|in_use_count)\
    |rte_pktmbuf_(pool_create|alloc|alloc_bulk|free|free_bulk|prepend|append|adj|trim\
        |headroom|tailroom|clone|chain)\
    |rte_power_(monitor|monitor_multi|pause)|rte_eth_get_monitor_addr\
    |rte_pdump_(un)?init\
    |rte_fib6?_(create|add|lookup_bulk|free)\
    |rte_ring_(create|free|count|free_count|get_capacity\
        |sp_enqueue_burst|sp_enqueue_bulk|sc_dequeue_burst)";

const VARIABLES: &str = "rte_eth_fp_ops\
    |RTE_(MAX_ETHPORTS|MAX_LCORE|MAX_QUEUES_PER_PORT|PKTMBUF_HEADROOM|MBUF_DEFAULT_BUF_SIZE)\
    |RTE_(LOG_.*|MEMPOOL_CACHE_MAX_SIZE|ETH_NAME_MAX_LEN|ETH_RETA_GROUP_SIZE)\
    |RTE_ETH_(RX|TX)_OFFLOAD_.*|RTE_ETH_RSS_.*|RTE_ETH_SPEED_NUM_.*|RTE_MBUF_F_.*\
    |RTE_ETH_LINK_.*|RING_F_.*|RTE_VER_.*";

/// Flag words are 64 bits wide in DPDK; without this bindgen would size each constant by its value.
#[derive(Debug)]
struct Flags;

impl ParseCallbacks for Flags {
    fn int_macro(&self, name: &str, _value: i64) -> Option<IntKind> {
        let wide = ["RTE_ETH_RX_OFFLOAD_", "RTE_ETH_TX_OFFLOAD_", "RTE_ETH_RSS_", "RTE_MBUF_F_"];
        wide.iter().any(|prefix| name.starts_with(prefix)).then_some(IntKind::U64)
    }
}

fn main() {
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-env-changed=DPDK_SYS_LTO");
    let library = pkg_config::Config::new()
        .atleast_version("22.11")
        .probe("libdpdk")
        .unwrap_or_else(|e| panic!("DPDK 22.11 or later is needed: `make deps` installs it\n{e}"));
    println!("cargo::metadata=version={}", library.version);
    let flags = cflags();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings(&flags, &out);
    static_functions(&flags, &out);
}

/// The C flags as pkg-config prints them: its crate drops `-march` and `-include`, and both
/// compilers need them.
fn cflags() -> Vec<String> {
    let output = Command::new("pkg-config")
        .args(["--cflags", "libdpdk"])
        .output()
        .expect("pkg-config ran a moment ago");
    String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect()
}

fn bindings(flags: &[String], out: &Path) {
    bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(flags)
        .allowlist_function(FUNCTIONS)
        .allowlist_var(VARIABLES)
        // Linking to a thread-local of C works, reading it crashes: go through `shim_errno`.
        .blocklist_item("per_lcore_.*")
        .use_core()
        .rust_edition(bindgen::RustEdition::Edition2024)
        .wrap_unsafe_ops(true)
        .wrap_static_fns(true)
        .wrap_static_fns_path(out.join("static_fns"))
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .prepend_enum_name(false)
        .generate_comments(false)
        .derive_default(true)
        .layout_tests(true)
        .clang_macro_fallback()
        .clang_macro_fallback_build_dir(out)
        .parse_callbacks(Box::new(Flags))
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate()
        .unwrap_or_else(|e| panic!("bindgen over the DPDK headers (is libclang installed?): {e}"))
        .write_to_file(out.join("bindings.rs"))
        .expect("OUT_DIR is writable");
}

fn static_functions(flags: &[String], out: &Path) {
    let mut build = cc::Build::new();
    build.file(out.join("static_fns.c")).include(".").opt_level(2).warnings(false);
    for flag in flags {
        build.flag(flag);
    }
    // Cross-language LTO, opt-in: clang's bitcode is inlined by rustc's own linker.
    if std::env::var_os("DPDK_SYS_LTO").is_some() {
        build.compiler("clang").flag("-flto=thin").archiver("llvm-ar");
    }
    build.compile("dpdk_static_fns");
}
