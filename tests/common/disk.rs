//! A small disk for a server's data, that a test fills up: every write then fails in the middle, as on a real one.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

/// A mounted file system in memory; gone with this value.
#[derive(Debug)]
pub struct SmallDisk {
    dir: PathBuf,
}

impl SmallDisk {
    /// Mounts one of so many MiB on a directory; none where nobody may mount: in a container without that right, or without root.
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub fn mount(dir: &Path, mib: u64) -> Result<Option<SmallDisk>> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "onecode-test"]).arg(dir).output();
        Ok(mounted.is_ok_and(|output| output.status.success()).then(|| SmallDisk { dir: dir.to_owned() }))
    }

    fn ballast(&self) -> PathBuf {
        self.dir.join("ballast")
    }

    /// Takes all the space that is left.
    ///
    /// # Errors
    /// When the file cannot be created at all.
    pub fn fill(&self) -> Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.ballast()).context("cannot create the ballast")?;
        let piece = vec![0_u8; 1 << 20];
        // A short write is the last one: the disk is full.
        while file.write_all(&piece).is_ok() {}
        Ok(())
    }

    /// Gives the space back.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn free(&self) -> Result<()> {
        std::fs::remove_file(self.ballast()).context("cannot remove the ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that is being killed may still hold files.
        drop(Command::new("umount").arg("-l").arg(&self.dir).output());
    }
}
