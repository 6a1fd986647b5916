//! A hit allocates nothing: counted by an allocator, on the thread that answers.
#![allow(unsafe_code, reason = "an allocator that counts must implement an unsafe trait")]

mod support;

use nearhit::Proxy;
use nearhit::config::Config;
use nearhit::load::{Order, Picker, Player, Script};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use support::{RedisServer, wait_for};

/// Requests in a window. What happens once in a while (every tick of 100 ms) may allocate, so not each window is clean;
/// what every hit does, or one in a thousand, would leave none.
const WINDOW: u64 = 6_400;
const WINDOWS: usize = 100;
const PIPELINE: usize = 16;

/// The system's allocator, counting what one thread asks for.
struct Counting;

/// The kernel's id of the thread that is watched; 0 = none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
/// Relaxed: the watched thread has answered before its count is read, and a channel lies between.
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Who this thread is; 0 until it asks. Needs no destructor and no memory, so an allocator may use it.
    static ME: Cell<i32> = const { Cell::new(0) };
}

fn count() {
    let me = ME.get();
    let me = if me == 0 {
        rustix::thread::gettid().as_raw_nonzero().get()
    } else {
        me
    };
    ME.set(me);
    if WATCHED.load(Ordering::Relaxed) == me {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: everything is the system allocator's doing; counting allocates nothing and cannot panic.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_hit_allocates_nothing() {
    let redis = RedisServer::start();
    let script = Script::new("k:", 100, 64);
    for key in 0..100 {
        let name = String::from_utf8(script.key_name(key)).expect("text");
        redis.cmd(&["SET", &name, &format!("{key:08}{}", ".".repeat(56))]);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let proxy = proxy(&redis).await;
        let player = || {
            let picker = Picker::new(&Order::InTurn, 100, 0, 1);
            Player::new(proxy.connect(), script.clone(), picker, PIPELINE)
        };
        let mut client = player();
        client.play(WINDOW).await.expect("the right replies");

        WATCHED.store(worker(), Ordering::Relaxed);
        // A new client is no hit: the count counts.
        player().batch().await.expect("the right replies");
        assert!(COUNT.load(Ordering::Relaxed) > 0);
        let mut fewest = u64::MAX;
        for _ in 0..WINDOWS {
            let (before, hits) = (COUNT.load(Ordering::Relaxed), proxy.cache().stats().hits);
            client.play(WINDOW).await.expect("the right replies");
            let allocated = COUNT.load(Ordering::Relaxed) - before;
            if proxy.cache().stats().hits - hits == WINDOW {
                fewest = fewest.min(allocated);
            }
        }
        assert_eq!(fewest, 0, "allocations for each {WINDOW} hits, at best");
    });
}

async fn proxy(redis: &RedisServer) -> Proxy {
    let mut config = Config::default();
    config.server.listen.clear();
    config.server.threads = 1;
    config.metrics.listen = None;
    let proxy = Proxy::builder().config(config).upstream(&redis.url()).start().await;
    let proxy = proxy.expect("start");
    wait_for("tracking", support::SOON, || proxy.cache().stats().tracking);
    proxy
}

/// The kernel's id of nearhit's only worker.
fn worker() -> i32 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
    let is_worker = |task: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        name.starts_with("nearhit-worker")
    };
    let task = tasks.flatten().find(is_worker).expect("a worker");
    task.file_name().to_string_lossy().parse().expect("a number")
}
