//! Panics as errors: a defect of this program ends a command or a stage like any other failure,
//! with a kind and a place.

use crate::error::{Error, Result};
use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The last panic of any thread, as the hook saw it: message, place, and a backtrace if
/// `RUST_BACKTRACE` asks for one.
static LAST: Mutex<Option<String>> = Mutex::new(None);

/// The error that a panic's message stands for, if it is no defect of this program.
static KNOWN: OnceLock<fn(&str) -> Option<Error>> = OnceLock::new();

/// Makes panics available to [`catch`] instead of printing them; `known` tells those that stand for
/// another error.
pub fn watch(known: fn(&str) -> Option<Error>) {
    // A process has one such function, and the first is as good as any.
    let _ = KNOWN.set(known);
    std::panic::set_hook(Box::new(|info| {
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(describe(info));
    }));
}

/// Runs `work`; a panic in it becomes an error: one that [`watch`] was told of, or one of the kind
/// [`Internal`](crate::ErrorKind::Internal).
///
/// Errors of `work`, and a panic in it.
pub fn catch<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    // Nothing that `work` holds is used after a panic.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let seen = LAST.lock().unwrap_or_else(PoisonError::into_inner).take();
        let known = KNOWN.get().and_then(|known| known(message(payload.as_ref())));
        if let Some(error) = known {
            return Err(error);
        }
        let place = seen.unwrap_or_else(|| message(payload.as_ref()).to_owned());
        Err(Error::internal("a defect of touchstone stopped it").caused_by(place).hint(
            "please report this with the command and the lines above; RUST_BACKTRACE=1 adds the way there. What was \
             finished before is kept",
        ))
    })
}

/// The result of `read`, which calls a library that parses foreign bytes; `damaged` turns the
/// message of a panic in it into an error.
///
/// Errors of `read`, and a panic in it.
pub fn guarded<T, E>(
    read: impl FnOnce() -> std::result::Result<T, E>,
    damaged: impl FnOnce(&str) -> E,
) -> std::result::Result<T, E> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|payload| Err(damaged(message(payload.as_ref()))))
}

fn describe(info: &PanicHookInfo) -> String {
    let mut text = message(info.payload()).to_owned();
    if let Some(place) = info.location() {
        text += &format!(" ({}:{})", place.file(), place.line());
    }
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        text += &format!("\n{backtrace}");
    }
    text
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;
    use std::error::Error as _;

    #[test]
    fn a_panic_is_an_internal_error_with_its_message() {
        let error = catch::<()>(|| panic!("row {} is not there", 7)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert!(
            error
                .source()
                .unwrap()
                .to_string()
                .contains("row 7 is not there")
        );
        let other = catch::<()>(|| Err(Error::data("wrong"))).unwrap_err();
        assert_eq!(other.kind(), ErrorKind::Data);
        assert_eq!(catch(|| Ok(3)).unwrap(), 3);
    }

    #[test]
    fn a_panic_of_a_library_is_the_error_that_its_caller_makes_of_it() {
        let read = |bytes: &'static [u8]| guarded(|| Ok(bytes[3]), |why| format!("damaged: {why}"));
        assert_eq!(read(b"four"), Ok(b'r'));
        assert!(
            read(b"two")
                .unwrap_err()
                .starts_with("damaged: index out of bounds")
        );
    }
}
