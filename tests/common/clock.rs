//! A wall clock that a test moves while a process runs. Time itself (timeouts, intervals) goes on as it does.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// The clock of one process; give its environment to the process.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that shows the right time, with its files in `dir`.
    ///
    /// # Errors
    /// When its library cannot be built: there is no C compiler, without which onecode does not build either.
    pub fn new(dir: &Path, name: &str) -> Result<Clock> {
        let (file, library) = (dir.join(format!("{name}.clock")), dir.join("shift.so"));
        if !library.exists() {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clock/shift.c");
            let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl").output()?;
            ensure!(built.status.success(), "cc failed: {}", String::from_utf8_lossy(&built.stderr));
        }
        let clock = Clock { file, library };
        clock.shift(0)?;
        Ok(clock)
    }

    /// From now on shows a time so many milliseconds off.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn shift(&self, ms: i64) -> Result<()> {
        use std::io::Write as _;
        // Not truncated: the process has the file mapped.
        let open = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&self.file);
        let mut file = open.with_context(|| format!("cannot open {}", self.file.display()))?;
        Ok(file.write_all(&ms.to_ne_bytes())?)
    }

    /// What a process needs to see it.
    ///
    /// # Errors
    /// When a path is no text.
    pub fn environment(&self) -> Result<[(&str, &str); 2]> {
        let (library, file) = (self.library.to_str().context("the path is no text")?, self.file.to_str().context("the path is no text")?);
        Ok([("LD_PRELOAD", library), ("ONECODE_TEST_CLOCK", file)])
    }
}
