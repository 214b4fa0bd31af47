//! Named places where a test lets a process die: by SIGKILL, without a last word.
//!
//! The feature `failpoints`, which this crate's own tests alone turn on, makes them real. Without
//! it nothing is looked at, and nothing of this is in the program.

/// Ends this process here, if a test wants that.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub(crate) fn here(_name: &str) {}

#[cfg(feature = "failpoints")]
pub(crate) use self::armed::here;

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock};

    use nix::sys::signal::{Signal, raise};

    /// Where to die: `gate_opened`, or `run_recorded:2` for the second time that this process is
    /// there. Several are separated by commas, and it dies at whichever comes first.
    const WHERE: &str = "KUGETSU_FAILPOINT";
    /// The beginning of a path. The file `PATH.N` is made by whoever dies at the place of number N,
    /// from 0, and nobody dies there while it exists.
    const ONCE: &str = "KUGETSU_FAILPOINT_ONCE";

    struct Failpoints {
        places: Vec<Place>,
        once: Option<PathBuf>,
        passed: Mutex<BTreeMap<String, u32>>,
    }

    #[derive(Debug, PartialEq)]
    struct Place {
        name: String,
        time: u32,
    }

    static FAILPOINTS: OnceLock<Option<Failpoints>> = OnceLock::new();

    /// Ends this process here, if a test wants that.
    pub(crate) fn here(name: &str) {
        if FAILPOINTS.get_or_init(read).as_ref().is_some_and(|failpoints| failpoints.is_end(name)) {
            raise(Signal::SIGKILL).expect("a process may kill itself");
            unreachable!("nothing outlives SIGKILL");
        }
    }

    #[expect(clippy::disallowed_methods, reason = "every process of a test is to read it")]
    fn read() -> Option<Failpoints> {
        let text = std::env::var(WHERE).ok()?;
        let once = std::env::var_os(ONCE).map(PathBuf::from);
        Some(Failpoints { places: parse(&text), once, passed: Mutex::default() })
    }

    fn parse(text: &str) -> Vec<Place> {
        let place = |text: &str| {
            let (name, time) = text.split_once(':').unwrap_or((text, "1"));
            Place {
                name: name.into(),
                time: time.parse().expect("NAME:NUMBER in KUGETSU_FAILPOINT"),
            }
        };
        text.split(',').map(place).collect()
    }

    impl Failpoints {
        fn is_end(&self, name: &str) -> bool {
            let mut passed = self.passed.lock().expect("no thread panics while it counts");
            let time = passed.entry(name.into()).or_default();
            *time += 1;
            let wanted = Place { name: name.into(), time: *time };
            let mut places = self.places.iter().enumerate().filter(|(_, place)| **place == wanted);
            places.any(|(number, _)| self.is_first(number))
        }

        fn is_first(&self, number: usize) -> bool {
            let Some(once) = &self.once else { return true };
            let mut path = once.clone().into_os_string();
            path.push(format!(".{number}"));
            File::create_new(path).is_ok()
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn each_place_is_the_end_once_and_at_its_time() {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let once = Some(folder.path().join("died"));
            let process = || Failpoints {
                places: parse("a,b:2,a"),
                once: once.clone(),
                passed: Mutex::default(),
            };
            let first = process();
            assert!(!first.is_end("b") && first.is_end("b") && !first.is_end("b"));
            assert!(first.is_end("a") && !first.is_end("a") && !first.is_end("c"));
            let second = process();
            assert!(!second.is_end("b") && !second.is_end("b") && second.is_end("a"));
            assert!(!process().is_end("a"));
        }
    }
}
