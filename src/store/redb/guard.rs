//! redb panics over some damage that it meets in a file. Here that becomes an error.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::store::StoreError;

use super::damaged;

thread_local! {
    static GUARDING: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread will be told of as damage: a panic hook need not tell it too.
pub(crate) fn is_guarding() -> bool {
    GUARDING.get()
}

/// Works with the file; a panic over what is in it means that it is damaged.
pub(super) fn guard<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let outer = GUARDING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDING.set(outer);
    result.unwrap_or_else(|panic| {
        Err(damaged(path, format!("working with it ended in a panic: {}", words(&*panic))))
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_damage() {
        let path = Path::new("/k/queue.redb");
        let answer: Result<(), StoreError> = guard(path, || panic!("page {} is odd", 7));
        let said = answer.expect_err("it panicked").to_string();
        assert!(said.ends_with("/k/queue.redb: working with it ended in a panic: page 7 is odd"));
        assert!(!is_guarding());
        assert!(guard(path, || Ok(is_guarding())).expect("no panic"));
    }
}
