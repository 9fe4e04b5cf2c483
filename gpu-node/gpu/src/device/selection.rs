//! Which of several devices is used.

use super::DeviceDescription;
use crate::fault::DeviceFault;

/// A device that was to be used before another one, and cannot be.
#[derive(Clone, Debug)]
pub struct PassedOver {
    /// The device.
    pub device: DeviceDescription,
    /// Why it cannot be used.
    pub reason: String,
}

/// The devices whose interface and name, such as `vulkan NVIDIA L4`, contain `name`, in any case, in order; all for `None`.
pub(super) fn named<T>(
    found: Vec<(DeviceDescription, T)>,
    name: Option<&str>,
) -> Result<Vec<(DeviceDescription, T)>, DeviceFault> {
    let wanted = name.unwrap_or("").to_lowercase();
    let titles: Vec<_> = found.iter().map(|(device, _)| device.title()).collect();
    let devices = found.into_iter().zip(&titles);
    let named: Vec<_> = devices
        .filter(|(_, title)| title.to_lowercase().contains(&wanted))
        .map(|(device, _)| device)
        .collect();
    if !named.is_empty() {
        return Ok(named);
    }
    Err(DeviceFault::Unavailable(match name {
        Some(name) if !titles.is_empty() => {
            format!("no device is called '{name}'; there are: {}", titles.join(", "))
        }
        _ => "no driver of this machine offers a device (CUDA, Vulkan, Metal or DX12)".to_owned(),
    }))
}

/// The first device that opens, and the ones before it with the reasons why they do not. A driver that fails while the device is
/// opened is passed over like one that has no such device. After a device that is a GPU, one of a software driver is not tried:
/// it would serve, but far too slowly.
pub(super) fn first_that_opens<T, D>(
    devices: Vec<(DeviceDescription, T)>,
    open: impl Fn(T) -> Result<D, DeviceFault>,
) -> Result<(D, Vec<PassedOver>), DeviceFault> {
    let mut passed_over: Vec<PassedOver> = Vec::new();
    for (device, found) in devices {
        let is_software = device.kind == "software";
        if is_software && passed_over.iter().any(|before| before.device.kind != "software") {
            break;
        }
        match open(found) {
            Ok(opened) => return Ok((opened, passed_over)),
            Err(DeviceFault::Unavailable(reason) | DeviceFault::Lost(reason)) => {
                passed_over.push(PassedOver { device, reason });
            }
            Err(full @ DeviceFault::OutOfMemory(_)) => return Err(full),
        }
    }
    let reasons: Vec<_> = passed_over.into_iter().map(|PassedOver { reason, .. }| reason).collect();
    Err(DeviceFault::Unavailable(reasons.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::{PassedOver, first_that_opens, named};
    use crate::device::DeviceDescription;
    use crate::fault::DeviceFault;

    /// Devices by interface and kind, found as their interfaces.
    fn devices(of: &[(&'static str, &'static str)]) -> Vec<(DeviceDescription, &'static str)> {
        let device = |&(api, kind)| DeviceDescription {
            name: "NVIDIA L4".to_owned(),
            api,
            kind,
            driver: String::new(),
            max_binding_bytes: 1,
            memory_bytes: None,
        };
        of.iter().map(|device_of| (device(device_of), device_of.0)).collect()
    }

    /// The interface of the device that is taken where some do not open, and of those that were passed over.
    fn taken(
        devices: Vec<(DeviceDescription, &'static str)>,
        broken: &[&str],
    ) -> Result<(&'static str, Vec<&'static str>), DeviceFault> {
        let open = |api| match api {
            api if broken.contains(&api) => Err(DeviceFault::Unavailable(format!("{api} does not open"))),
            api => Ok(api),
        };
        let (api, passed_over) = first_that_opens(devices, open)?;
        let reason_of = |PassedOver { device, reason }: &PassedOver| {
            assert_eq!(*reason, format!("{} does not open", device.api));
            device.api
        };
        Ok((api, passed_over.iter().map(reason_of).collect()))
    }

    #[test]
    fn the_next_driver_serves_where_one_does_not_open_but_none_on_the_processor() {
        let both = || devices(&[("cuda", "discrete"), ("vulkan", "discrete"), ("dx12", "software")]);
        assert_eq!(taken(both(), &[]), Ok(("cuda", vec![])));
        assert_eq!(taken(both(), &["cuda"]), Ok(("vulkan", vec!["cuda"])));
        let reasons = "cuda does not open; vulkan does not open".to_owned();
        assert_eq!(taken(both(), &["cuda", "vulkan"]), Err(DeviceFault::Unavailable(reasons)));
        let software = devices(&[("cuda", "software"), ("vulkan", "software")]);
        assert_eq!(taken(software, &["cuda"]), Ok(("vulkan", vec!["cuda"])));
    }

    #[test]
    fn a_driver_that_was_named_is_not_replaced_by_another_one() {
        let both = devices(&[("cuda", "discrete"), ("vulkan", "discrete")]);
        let cuda = named(both.clone(), Some("CUDA")).unwrap();
        assert_eq!(taken(cuda, &["cuda"]), Err(DeviceFault::Unavailable("cuda does not open".to_owned())));
        let either = named(both, Some("nvidia")).unwrap();
        assert_eq!(taken(either, &["cuda"]), Ok(("vulkan", vec!["cuda"])));
    }

    #[test]
    fn a_driver_that_fails_while_a_device_is_opened_is_passed_over_with_its_reason() {
        let both = || devices(&[("cuda", "discrete"), ("vulkan", "discrete")]);
        let lost = || DeviceFault::Lost("CUDA_ERROR_UNKNOWN".to_owned());
        let opened = first_that_opens(both(), |api| match api {
            "cuda" => Err(lost()),
            api => Ok(api),
        });
        let (api, passed_over) = opened.unwrap();
        let passed_over: Vec<_> =
            passed_over.iter().map(|before| (before.device.api, before.reason.as_str())).collect();
        assert_eq!((api, passed_over), ("vulkan", vec![("cuda", "CUDA_ERROR_UNKNOWN")]));
        let none = first_that_opens(both(), |api| match api {
            "cuda" => Err::<(), _>(lost()),
            api => Err(DeviceFault::Unavailable(format!("{api} does not open"))),
        });
        let reasons = "CUDA_ERROR_UNKNOWN; vulkan does not open".to_owned();
        assert_eq!(none.err(), Some(DeviceFault::Unavailable(reasons)));
    }

    #[test]
    fn a_lack_of_memory_is_no_reason_for_another_driver() {
        let full = |_| Err::<(), _>(DeviceFault::OutOfMemory("a test".to_owned()));
        let both = devices(&[("cuda", "discrete"), ("vulkan", "discrete")]);
        assert_eq!(first_that_opens(both, full).err(), Some(DeviceFault::OutOfMemory("a test".to_owned())));
    }
}
