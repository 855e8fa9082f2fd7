//! Division of loops into tasks, and runtime dispatch to the instruction set of this processor.
#![allow(unsafe_code, reason = "calling a function compiled for more instructions than the rest of the program")]

/// Rows that one task computes; fixed, so that sums over rows do not depend on the number of threads.
pub const ROWS_PER_TASK: usize = 64;

/// Elements that one task computes if there are no rows.
pub const ELEMENTS_PER_TASK: usize = 1 << 14;

/// Evaluates an expression, compiled for the widest vector instructions of this processor, together with everything
/// inlined into it.
macro_rules! vectorized {
    ($work:expr) => {
        // A closure that is not inlined is compiled for the baseline instruction set.
        $crate::dispatch::with_vectors(
            #[inline(always)]
            || $work,
        )
    };
}
pub(crate) use vectorized;

/// Runs `work`, which is inlined, with the widest vector instructions: see [`vectorized`].
#[inline]
pub fn with_vectors<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512dq")
            && std::arch::is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has the instructions that the function is compiled for.
            return unsafe { x86::avx512(work) };
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { x86::avx2(work) };
        }
    }
    work()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2")]
    pub(super) fn avx512<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub(super) fn avx2<R>(work: impl FnOnce() -> R) -> R {
        work()
    }
}
