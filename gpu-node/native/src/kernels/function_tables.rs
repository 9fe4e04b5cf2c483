//! Tables of functions by the constants that they were compiled for.

use super::BlockFn;

/// One function for each number of tokens from 1 to those of a chunk.
pub(super) type ByTokens = &'static [BlockFn];

/// One value for groups of 64 columns, and one for groups of 32.
#[derive(Debug)]
pub(super) struct ByGroup<T> {
    pub(super) of_64: T,
    pub(super) of_32: T,
}

impl<T> ByGroup<T> {
    pub(super) fn of(&self, group: usize) -> &T {
        if group == 64 { &self.of_64 } else { &self.of_32 }
    }
}

/// `&[name::<1>, …, name::<8>]`: one function for each number of tokens, with further constants in front.
macro_rules! by_tokens {
    ($($name:ident)::+ $(, $constant:expr)*) => {
        by_tokens!(@list [$($name)::+] [$($constant),*] 1 2 3 4 5 6 7 8)
    };
    (@list $name:tt $constants:tt $($tokens:literal)+) => {
        &[$(by_tokens!(@one $name $constants $tokens)),+]
    };
    (@one [$($name:ident)::+] [$($constant:expr),*] $tokens:literal) => {
        $($name)::+::<$($constant,)* $tokens>
    };
}

/// As [`by_tokens!`], for up to 16 tokens.
#[cfg(target_arch = "x86_64")]
macro_rules! by_16_tokens {
    ($($name:ident)::+) => {
        by_tokens!(@list [$($name)::+] [] 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
}

/// `by_tokens!` for groups of 64 and of 32.
macro_rules! by_group_and_tokens {
    ($($name:ident)::+) => {
        ByGroup { of_64: by_tokens!($($name)::+, 64), of_32: by_tokens!($($name)::+, 32) }
    };
}

#[cfg(target_arch = "x86_64")]
pub(super) use by_16_tokens;
pub(super) use {by_group_and_tokens, by_tokens};
