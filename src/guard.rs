//! Libraries that panic on bytes that they did not expect, turned into errors.

use crate::{Error, ErrorKind, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Guarded calls at work, on any thread.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// The result of `read`, a call of a library that parses the file `path`; a panic in it is an error of `kind` that names the
/// file.
///
/// # Errors
/// What `read` returns, or that it panicked.
pub fn guarded<T>(path: &Path, kind: ErrorKind, read: impl FnOnce() -> Result<T>) -> Result<T> {
    AT_WORK.fetch_add(1, Ordering::SeqCst);
    let read = catch_unwind(AssertUnwindSafe(read));
    AT_WORK.fetch_sub(1, Ordering::SeqCst);
    read.unwrap_or_else(|panic| {
        Err(Error::new(kind, format!("{} is damaged: its contents contradict one another", path.display()))
            .caused_by(text_of(panic.as_ref()).to_owned())
            .hint("write or download the file again"))
    })
}

/// Whether a panic is one that [`guarded`] turns into an error, so that a panic hook has nothing to say.
pub fn is_at_work() -> bool {
    AT_WORK.load(Ordering::SeqCst) > 0
}

/// The message of a panic.
fn text_of(panic: &(dyn Any + Send)) -> &str {
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    panic.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("the library gave up without a word")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_file() {
        let error = guarded::<()>(Path::new("a.bin"), ErrorKind::Model, || panic!("index {} of 3", 7)).unwrap_err();
        assert_eq!(error.to_string(), "a.bin is damaged: its contents contradict one another");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("index 7 of 3"));
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(!is_at_work());
        assert_eq!(guarded(Path::new("a.bin"), ErrorKind::Data, || Ok(5)).unwrap(), 5);
    }
}
