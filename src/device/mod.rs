//! Where tensors live: the only room that names a backend, and the operations that are fused for the backend they meet.
//!
//! Every other room asks [`select`] for a device by name and calls [`fused`]'s functions; which library computes them, and
//! with which kernels, is settled here.

pub mod fused;
pub mod hardware;

use crate::error::{Error, Result};
use burn::tensor::Device;

/// The device that is always built in: the one that tests and reference results are computed on.
pub const DEFAULT: &str = "flex";

/// The devices this binary was built with, as [`select`] spells them.
pub fn built() -> Vec<&'static str> {
    let mut names = vec!["flex"];
    if cfg!(feature = "tch") {
        names.extend(["libtorch", "libtorch:cuda:N"]);
    }
    if cfg!(feature = "cuda") {
        names.push("cuda:N");
    }
    names
}

/// The device called `name`: `flex`, `libtorch`, `libtorch:cuda:N` or `cuda:N`.
///
/// # Errors
/// A name that does not exist, or one whose feature is not built in; the hint lists what is built and how to build the rest.
/// Whether the hardware is present shows only at the first tensor.
pub fn select(name: &str) -> Result<Device> {
    let parts: Vec<&str> = name.split(':').collect();
    match parts.as_slice() {
        ["flex"] => {
            keep_freed_memory();
            Ok(Device::flex())
        }
        ["libtorch"] => libtorch(None),
        ["libtorch", "cuda", index] => libtorch(Some(gpu_index(name, index)?)),
        ["cuda", index] => cuda(gpu_index(name, index)?),
        ["cuda"] => cuda(0),
        _ => Err(Error::device(format!("there is no device called `{name}`")).hint(known())),
    }
}

/// Whether the device computes on the processor rather than on an accelerator.
pub fn is_cpu(device: &Device) -> bool {
    !format!("{:?}", device.clone().inner()).to_lowercase().contains("cuda")
}

/// Teaches the C library's allocator to keep large blocks that are freed instead of returning them to the system.
///
/// A training step frees and allocates the same few megabytes over and over; taken from the system anew each time, their
/// page faults cost a fifth of the step. glibc raises the size from which it returns blocks to the largest one, up to
/// 32 MiB, that it has seen freed, and so needs to see one. Other allocators lose nothing: the block is never touched.
fn keep_freed_memory() {
    const LARGEST_LEARNT: usize = 31 << 20;
    drop(std::hint::black_box(vec![0u8; LARGEST_LEARNT]));
}

fn gpu_index(name: &str, index: &str) -> Result<usize> {
    index.parse().map_err(|_| {
        Error::device(format!("device `{name}`: `{index}` is not a GPU's number")).hint("count from 0, as in `cuda:0`")
    })
}

#[cfg(feature = "tch")]
#[expect(deprecated, reason = "LibTorch stays the fastest backend for large models on CPUs; burn is pinned")]
fn libtorch(gpu: Option<usize>) -> Result<Device> {
    Ok(match gpu {
        None => Device::libtorch(),
        Some(index) => Device::libtorch_cuda(index),
    })
}

#[cfg(not(feature = "tch"))]
fn libtorch(_gpu: Option<usize>) -> Result<Device> {
    Err(Error::device("this binary was built without LibTorch").hint(known()))
}

#[cfg(feature = "cuda")]
fn cuda(index: usize) -> Result<Device> {
    Ok(Device::cuda(index))
}

#[cfg(not(feature = "cuda"))]
fn cuda(_index: usize) -> Result<Device> {
    Err(Error::device("this binary was built without CUDA").hint(known()))
}

fn known() -> String {
    format!(
        "built in: {}. Build others with `cargo build --release --features tch` (libtorch, libtorch:cuda:N; run \
         `just setup-libtorch` first) or `--features cuda` (cuda:N)",
        built().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use miette::Diagnostic;

    #[test]
    fn flex_is_always_built_and_is_a_cpu() {
        assert!(built().contains(&"flex"));
        let device = select("flex").unwrap();
        assert!(is_cpu(&device));
        assert!(is_cpu(&device.autodiff()));
    }

    #[test]
    fn an_unknown_name_is_an_error_that_lists_what_is_built() {
        for name in ["", "gpu", "flex:0", "libtorch:cuda", "cuda:0:1"] {
            let error = select(name).unwrap_err();
            assert!(error.help().unwrap().to_string().contains("built in: flex"), "{name}");
        }
        assert!(select("cuda:first").unwrap_err().to_string().contains("`first`"));
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_built_says_how_to_build_it() {
        let help = select("cuda:0").unwrap_err().help().unwrap().to_string();
        assert!(help.contains("--features cuda"), "{help}");
    }
}
