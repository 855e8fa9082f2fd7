//! Threads that work in step: each call runs one closure on all of them.
//!
//! A decoding step runs hundreds of short parallel sections, one after the other. The threads wait for the next one by
//! spinning for some microseconds and then park, so that an idle pool uses no processor time.
#![allow(unsafe_code, reason = "a closure is lent to other threads until they have all finished it")]

use std::any::Any;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};

/// The number of checks, each with a pause instruction, before a thread parks. Heuristic: a pause takes 10 to 40 ns, so
/// this is 50 to 200 µs, longer than the serial sections between two multiplications and shorter than a person notices.
const MAX_SPINS: usize = 5000;

type Work<'a> = dyn Fn(usize) + Sync + 'a;

/// A pool of threads, the caller's included.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the caller whose work runs.
    running: Mutex<()>,
}

struct Shared {
    /// The number of calls so far; a change starts the workers.
    call: Padded<AtomicUsize>,
    /// The workers that have not finished the current call.
    unfinished: Padded<AtomicUsize>,
    work: Mutex<Option<&'static Work<'static>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Mutex<Option<Thread>>,
    caller_is_parked: AtomicBool,
    worker_is_parked: Vec<AtomicBool>,
    is_closed: AtomicBool,
}

/// A value with cache lines to itself: two lines, because processors fetch them in pairs.
#[repr(align(128))]
struct Padded<T>(T);

thread_local! {
    static IS_IN_POOL: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// Starts `threads` − 1 threads; at least the caller's own thread works.
    pub fn new(threads: usize) -> Self {
        let n_workers = threads.saturating_sub(1);
        let shared = Arc::new(Shared {
            call: Padded(AtomicUsize::new(0)),
            unfinished: Padded(AtomicUsize::new(0)),
            work: Mutex::new(None),
            panic: Mutex::new(None),
            caller: Mutex::new(None),
            caller_is_parked: AtomicBool::new(false),
            worker_is_parked: (0..n_workers).map(|_| AtomicBool::new(false)).collect(),
            is_closed: AtomicBool::new(false),
        });
        // A system that refuses more threads leaves a smaller pool, which computes the same.
        let workers = (0..n_workers)
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                thread::Builder::new().name(format!("kernels-{}", i + 1)).spawn(move || shared.work(i)).ok()
            })
            .collect();
        Self { shared, workers, running: Mutex::new(()) }
    }

    /// Returns the number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with each index below the number of threads, each on its own thread, and returns when all calls
    /// have returned. Callers on several threads take turns.
    ///
    /// # Panics
    /// Panics if `work` does, on whichever thread, after all calls have ended; and if called from within `work`.
    pub fn run(&self, work: &(dyn Fn(usize) + Sync)) {
        assert!(!IS_IN_POOL.get(), "a pool's work does not itself use a pool");
        if self.workers.is_empty() {
            return work(0);
        }
        let running = lock(&self.running);
        let shared = &*self.shared;
        // SAFETY: the reference lives until this function returns, and it returns only once no worker uses it.
        let work: &'static Work<'static> = unsafe { std::mem::transmute::<&Work, &'static Work<'static>>(work) };
        *lock(&shared.work) = Some(work);
        *lock(&shared.caller) = Some(thread::current());
        shared.unfinished.0.store(self.workers.len(), Ordering::Relaxed);
        // Sequentially consistent, like the flags: either a worker sees the call before it parks, or we see its flag.
        shared.call.0.fetch_add(1, Ordering::SeqCst);
        for (worker, is_parked) in self.workers.iter().zip(&shared.worker_is_parked) {
            if is_parked.swap(false, Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
        let own = call(work, 0);
        wait(&shared.caller_is_parked, || shared.unfinished.0.load(Ordering::SeqCst) == 0);
        let panic = lock(&shared.panic).take();
        drop(running);
        if let Some(panic) = own.err().or(panic) {
            resume_unwind(panic);
        }
    }

    /// Calls `work` with the index and the elements of each chunk of `chunk_len` elements, the last one maybe shorter,
    /// divided among the threads as they become free.
    ///
    /// # Panics
    /// Panics if `chunk_len` is 0, and as [`run`](Self::run) does.
    pub fn for_each_chunk<T: Send>(&self, values: &mut [T], chunk_len: usize, work: impl Fn(usize, &mut [T]) + Sync) {
        if self.workers.is_empty() || values.len() <= chunk_len {
            return values.chunks_mut(chunk_len).enumerate().for_each(|(i, chunk)| work(i, chunk));
        }
        let n_chunks = values.len().div_ceil(chunk_len);
        let values = Parts::new(values);
        let next = AtomicUsize::new(0);
        self.run(&|_| {
            loop {
                let i = next.fetch_add(1, Ordering::Relaxed);
                if i >= n_chunks {
                    return;
                }
                // SAFETY: each index is given to one thread.
                work(i, unsafe { values.part(i * chunk_len, chunk_len) });
            }
        });
    }
}

/// A slice whose parts are lent to several threads.
struct Parts<'a, T> {
    first: *mut T,
    len: usize,
    values: PhantomData<&'a mut [T]>,
}

// SAFETY: it lends parts that do not overlap, by the guarantee of its callers, to threads that may have them.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    fn new(values: &'a mut [T]) -> Self {
        Self { first: values.as_mut_ptr(), len: values.len(), values: PhantomData }
    }

    /// Returns the elements from `start`, at most `len`.
    ///
    /// # Safety
    /// Parts that are lent at the same time do not overlap.
    #[allow(clippy::mut_from_ref, reason = "the parts do not overlap")]
    unsafe fn part(&self, start: usize, len: usize) -> &'a mut [T] {
        assert!(start <= self.len, "a part of the slice");
        // SAFETY: the elements are in the slice, which is borrowed mutably, and by the caller's guarantee lent once.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(start), len.min(self.len - start)) }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.is_closed.store(true, Ordering::SeqCst);
        self.shared.call.0.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker's own panics were caught.
            let _ = worker.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Shared {
    fn work(&self, worker: usize) {
        let mut last_call = 0;
        loop {
            wait(&self.worker_is_parked[worker], || self.call.0.load(Ordering::SeqCst) != last_call);
            last_call = self.call.0.load(Ordering::SeqCst);
            if self.is_closed.load(Ordering::SeqCst) {
                return;
            }
            let work = *lock(&self.work);
            if let Some(Err(panic)) = work.map(|work| call(work, worker + 1)) {
                *lock(&self.panic) = Some(panic);
            }
            if self.unfinished.0.fetch_sub(1, Ordering::SeqCst) == 1
                && self.caller_is_parked.swap(false, Ordering::SeqCst)
                && let Some(caller) = &*lock(&self.caller)
            {
                caller.unpark();
            }
        }
    }
}

fn call(work: &Work, thread: usize) -> thread::Result<()> {
    IS_IN_POOL.set(true);
    let result = catch_unwind(AssertUnwindSafe(|| work(thread)));
    IS_IN_POOL.set(false);
    result
}

/// Spins until `is_ready`, then parks; the thread that makes it ready clears the flag and unparks this one.
fn wait(is_parked: &AtomicBool, is_ready: impl Fn() -> bool) {
    for _ in 0..MAX_SPINS {
        if is_ready() {
            return;
        }
        std::hint::spin_loop();
    }
    loop {
        is_parked.store(true, Ordering::SeqCst);
        if is_ready() {
            is_parked.store(false, Ordering::SeqCst);
            return;
        }
        thread::park();
    }
}

/// Locks a mutex whose value is valid whatever panicked while it was locked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_thread_works_once_in_each_call() {
        for threads in [0, 1, 2, 5] {
            let pool = Pool::new(threads);
            assert_eq!(pool.threads(), threads.max(1));
            let counts: Vec<AtomicUsize> = (0..pool.threads()).map(|_| AtomicUsize::new(0)).collect();
            for call in 1..=2000 {
                pool.run(&|thread| {
                    counts[thread].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == call), "call {call}");
            }
        }
    }

    #[test]
    fn chunks_cover_every_element_once() {
        for threads in [1, 3] {
            let pool = Pool::new(threads);
            for len in [0, 1, 9, 10, 11, 1000] {
                let mut values = vec![0; len];
                pool.for_each_chunk(&mut values, 10, |i, chunk| {
                    chunk.iter_mut().enumerate().for_each(|(j, x)| *x += 10 * i + j);
                });
                assert!(values.iter().enumerate().all(|(i, x)| i == *x), "{threads} threads, {len} elements");
            }
        }
    }

    #[test]
    fn parked_threads_wake() {
        let pool = Pool::new(3);
        let count = AtomicUsize::new(0);
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(20));
            pool.run(&|thread| {
                // The caller waits long enough to park as well.
                thread::sleep(Duration::from_millis(20 * thread as u64));
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.into_inner(), 9);
    }

    #[test]
    fn callers_take_turns() {
        let pool = Pool::new(2);
        let (inside, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(&|_| {
                            assert!(inside.fetch_add(1, Ordering::SeqCst) < 2, "work of two callers at once");
                            count.fetch_add(1, Ordering::Relaxed);
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 1200);
    }

    #[test]
    fn a_panic_reaches_the_caller() {
        let pool = Pool::new(3);
        for panicking in 0..3 {
            let finished = AtomicUsize::new(0);
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(&|thread| {
                    if thread == panicking {
                        std::panic::panic_any(thread);
                    }
                    finished.fetch_add(1, Ordering::Relaxed);
                });
            }));
            let panic = result.expect_err("the panic of the work");
            assert_eq!(panic.downcast_ref::<usize>(), Some(&panicking));
            assert_eq!(finished.into_inner(), 2, "the others finish");
        }
        pool.run(&|_| {});
    }
}
