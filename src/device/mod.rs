//! Devices, on which tensors are computed: the only room that names a backend, with the operations
//! that are fused for some backends.
//!
//! Every other room asks [`select`] for a device by name and calls [`fused`]'s functions; the
//! library and the kernels that compute them are chosen here.

pub mod fused;
pub mod hardware;
pub mod memory;
mod spec;

pub use spec::DeviceSpec;

use crate::error::{Error, Result};
use burn::tensor::{Device, Tensor};
use std::borrow::Borrow;

/// The device that is always built in, on which tests and reference results are computed.
pub const DEFAULT: DeviceSpec = DeviceSpec::Flex;

/// The devices that this binary was built with, as [`select`] spells them.
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

/// The device that `spec` names.
///
/// # Errors
/// A device whose feature is not built in; the hint lists the built devices and says how to build
/// the others. Whether the hardware is present shows only at the first tensor, which [`try_out`]
/// creates.
pub fn select(spec: impl Borrow<DeviceSpec>) -> Result<Device> {
    match *spec.borrow() {
        DeviceSpec::Flex => {
            keep_freed_memory();
            Ok(Device::flex())
        }
        DeviceSpec::LibTorch => libtorch(None),
        DeviceSpec::LibTorchCuda(index) => libtorch(Some(index)),
        DeviceSpec::Cuda(index) => cuda(index),
    }
}

/// Multiplies two small matrices on a device, since a missing driver or GPU shows only then, and as
/// a panic.
///
/// # Errors
/// A device that is not built in, that cannot be used, or that computes a wrong result.
pub fn try_out(spec: DeviceSpec) -> Result<()> {
    let device = select(spec)?;
    let product = crate::defect::catch(|| {
        let ones = Tensor::<2>::ones([8, 8], &device);
        Ok(ones.clone().matmul(ones).sum().into_scalar::<f32>())
    });
    match product {
        Ok(512.0) => Ok(()),
        Ok(other) => Err(
            Error::device(format!("`{spec}` computes 8 · 64 = {other}")).hint(format!(
                "its library or driver is broken: reinstall it, or use --device {DEFAULT}"
            )),
        ),
        Err(panic) => {
            let why = std::error::Error::source(&panic)
                .map(ToString::to_string)
                .unwrap_or_default();
            Err(Error::device(format!("`{spec}` cannot be used"))
                .caused_by(why)
                .hint(format!(
                    "check the driver and the number of the GPU, or use --device {DEFAULT}"
                )))
        }
    }
}

/// Makes the C library's allocator keep large freed blocks instead of returning them to the system.
///
/// A training step allocates and frees the same few megabytes over and over; if they came from the
/// system each time, their page faults would cost a fifth of the step. glibc raises the size from
/// which it returns blocks to that of the largest block, up to 32 MiB, that it has seen freed, so
/// it must see one. Other allocators lose nothing: the block is never touched.
fn keep_freed_memory() {
    const LARGEST_LEARNT: usize = 31 << 20;
    drop(std::hint::black_box(vec![0u8; LARGEST_LEARNT]));
}

#[cfg(feature = "tch")]
#[expect(
    deprecated,
    reason = "LibTorch stays the fastest backend for large models on CPUs; burn is pinned"
)]
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

    #[test]
    fn the_default_device_is_built_in_and_computes() {
        assert!(built().contains(&DEFAULT.to_string().as_str()));
        try_out(DEFAULT).unwrap();
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_built_says_how_to_build_it() {
        let error = try_out(DeviceSpec::Cuda(0)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Device);
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(help.contains("--features cuda"), "{help}");
    }
}
