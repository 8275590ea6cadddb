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
use burn::backend::DispatchDevice;
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

/// True if tensors on `device` are in the machine's own memory, where reading one waits for nothing.
#[cfg_attr(
    feature = "tch",
    expect(deprecated, reason = "the name of LibTorch's device for processors")
)]
pub fn is_host(device: &Device) -> bool {
    match device.clone().inner().as_dispatch() {
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "tch")]
        DispatchDevice::LibTorch(device) => matches!(device, burn::backend::LibTorchDevice::Cpu),
        _ => false,
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

/// The error that the panic `message` stands for, if a device has failed: LibTorch's failures reach
/// this program as panics of its bindings.
pub fn failure(message: &str) -> Option<Error> {
    const LIBTORCH: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"";
    // The rest is LibTorch's own backtrace.
    let (said, _) = message
        .strip_prefix(LIBTORCH)?
        .split_once("\\nException raised from")?;
    let said = said.replace("\\n", " ");
    Some(if said.contains("out of memory") {
        Error::memory("the memory of the GPU is full")
            .caused_by(said)
            .hint("give stages less of it (`--memory`), or end what else uses the GPU; what was finished before is kept")
    } else {
        Error::device("LibTorch has failed").caused_by(said).hint(
            "check the GPU with `nvidia-smi`, then run the command again: what was finished before is kept",
        )
    })
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
    let Some(index) = gpu else {
        return Ok(Device::libtorch());
    };
    let seen = tch::Cuda::device_count();
    if index as i64 >= seen {
        let error = Error::device(format!(
            "LibTorch sees {seen} GPUs, so there is no number {index}"
        ));
        return Err(match tch::utils::has_cudart() {
            true => error.hint("check the driver with `nvidia-smi`, and CUDA_VISIBLE_DEVICES"),
            false => error.hint(
                "the CUDA libraries of LibTorch are not loaded: let LD_LIBRARY_PATH lead to the folder `torch/lib` of \
                 a PyTorch 2.11.0 with CUDA",
            ),
        });
    }
    Ok(Device::libtorch_cuda(index))
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

    #[test]
    fn a_failure_of_libtorch_is_told_from_a_defect_of_this_program() {
        let panic = |said: &str| {
            format!(
                "called `Result::unwrap()` on an `Err` value: Torch(\"{said}\\nException raised from malloc at /a.cpp:1 (most \
                 recent call first):\\nframe #0: c10::Error\")"
            )
        };
        let full = failure(&panic("CUDA out of memory. Tried to allocate 2.00 GiB")).unwrap();
        assert_eq!(full.kind(), crate::ErrorKind::Memory);
        let lost = failure(&panic("CUDA error: device-side assert\\ntriggered")).unwrap();
        assert_eq!(lost.kind(), crate::ErrorKind::Device);
        let cause = std::error::Error::source(&lost).unwrap().to_string();
        assert_eq!(cause, "CUDA error: device-side assert triggered");
        assert!(failure("index out of bounds").is_none());
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
