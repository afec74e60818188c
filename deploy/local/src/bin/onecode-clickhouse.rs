//! Runs ClickHouse from its shared library: `onecode-clickhouse LIBCHDB ARGUMENT...`.
//!
//! The library `libchdb.so` is ClickHouse itself. Its function `chdb_query_cmdline` is the `main` of clickhouse-local, which
//! serves the genuine HTTP interface after `SYSTEM START LISTEN HTTP`. This program owns the call and nothing else: the
//! arguments after the library's path are passed on as they are, and it returns when the server ends. Standard library only,
//! because the build script compiles this file on its own.

#![expect(unsafe_code, reason = "ClickHouse is a C library: dlopen, dlsym and one call cannot be had from safe code")]

use std::ffi::{CStr, CString, OsString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

const ENTRY_POINT: &CStr = c"chdb_query_cmdline";
const RTLD_NOW: c_int = 2;

type EntryPoint = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut c_void;

#[link(name = "dl")]
unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn dlerror() -> *const c_char;
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("onecode-clickhouse: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = std::env::args_os().skip(1);
    let library = c_string(arguments.next().ok_or("the path of libchdb.so is missing")?)?;
    let server_arguments = arguments.map(c_string).collect::<Result<Vec<_>, _>>()?;
    if server_arguments.is_empty() {
        return Err("arguments for clickhouse-local are missing".to_owned());
    }
    let entry_point = load(&library)?;
    let mut pointers: Vec<*mut c_char> = server_arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(pointers.len()).map_err(|_| "too many arguments".to_owned())?;
    pointers.push(std::ptr::null_mut());
    // SAFETY: `argv` is what C promises a main: `count` NUL-terminated strings and a null pointer, all alive until the call
    // returns, because `server_arguments` and `pointers` outlive it. The function keeps no pointer that is used afterwards:
    // the process ends right after it.
    unsafe { entry_point(count, pointers.as_mut_ptr()) };
    Ok(())
}

fn c_string(argument: OsString) -> Result<CString, String> {
    CString::new(argument.into_vec()).map_err(|_| "an argument contains a NUL byte".to_owned())
}

fn load(library: &CStr) -> Result<EntryPoint, String> {
    // SAFETY: the path is NUL-terminated. Opening the library runs its initialisers, which is what starting ClickHouse means.
    let handle = unsafe { dlopen(library.as_ptr(), RTLD_NOW) };
    if handle.is_null() {
        return Err(format!("cannot open {}: {}", library.to_string_lossy(), last_error()));
    }
    // SAFETY: the handle came from dlopen just now and is never closed; the symbol's name is NUL-terminated.
    let symbol = unsafe { dlsym(handle, ENTRY_POINT.as_ptr()) };
    if symbol.is_null() {
        return Err(format!("{} is not the expected ClickHouse library: {}", library.to_string_lossy(), last_error()));
    }
    // SAFETY: the library (its version is pinned by the installer) declares `chdb_query_cmdline(int, char **)`; a pointer
    // result in a register is ignored by us, so it does not matter whether it returns one or nothing.
    Ok(unsafe { std::mem::transmute::<*mut c_void, EntryPoint>(symbol) })
}

fn last_error() -> String {
    // SAFETY: dlerror returns null or a NUL-terminated string that stays valid until the next dl* call of this thread.
    unsafe {
        let message = dlerror();
        if message.is_null() { "no reason given".to_owned() } else { CStr::from_ptr(message).to_string_lossy().into_owned() }
    }
}
