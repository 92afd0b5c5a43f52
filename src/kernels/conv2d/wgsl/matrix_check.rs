//! The check of which adapters may use their cooperative matrices: those whose products of a small
//! case are right. (There was a driver that doubled sums that were carried across a loop.)

use super::call::Call;
use super::gradients;
use super::matrix::Unit;
use crate::device::Profile;
use crate::kernels::adapter::{adapter_profile, profile_of};
use crate::kernels::conv2d::{Conv2dOptions, Tile};
use crate::kernels::shader::Types;
use crate::kernels::testing;
use crate::kernels::{layout, record};
use burn::backend::wgpu::CubeTensor;
use burn::cubecl::Device as CubeDevice;
use burn::tensor::{DType, Shape, f16};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Returns how an adapter of this profile computes convolutions of f16 maps, and why: "cooperative
/// matrices 16x16x16", "plain f16 (no cooperative matrices)", "none (no shader-f16)". (Matrices
/// also have to pass a check when they are first used; the log reports the result.)
pub fn f16_path(profile: &Profile) -> String {
    if !profile.extensions.f16 {
        return "none (no shader-f16)".into();
    }
    Unit::of(profile).map_or_else(|why| format!("plain f16 ({why})"), |unit| unit.to_string())
}

/// The result of the check for each device and unit.
static CHECKED: LazyLock<Mutex<HashMap<(CubeDevice, Unit), bool>>> = LazyLock::new(Mutex::default);

/// Returns the matrices that compute convolutions of f16 maps on the device of `x`, if it may use
/// any. On their first use on a device, they are checked there.
pub(super) fn unit(x: &CubeTensor) -> Option<Unit> {
    if testing::matrix_shim() {
        return Some(Unit::SHIM);
    }
    let unit = Unit::of(&profile_of(x)).ok()?;
    // A recording for another card can't be checked here.
    if record::dry() {
        return Some(unit);
    }
    let key = (x.device.clone(), unit);
    let mut checked = CHECKED.lock().unwrap_or_else(PoisonError::into_inner);
    let known = checked.get(&key).copied();
    known
        .unwrap_or_else(|| {
            let found = match adapter_profile(x).extensions.cover(unit.extensions()) {
                true => check(x, unit),
                false => Err("the adapter itself has none".into()),
            };
            match &found {
                Ok(()) => log::info!("f16 convolutions: {unit}, checked"),
                Err(why) => log::warn!("f16 convolutions: plain f16, not {unit}: {why}"),
            }
            checked.insert(key, found.is_ok());
            found.is_ok()
        })
        .then_some(unit)
}

/// Images, channels, side and outputs of the case: there is more than one block of 128, and the
/// last ones are only partly filled.
const CASE: [usize; 4] = [1, 20, 12, 132];

/// Returns a small integer, so that sums are exact in f32 whatever their order.
fn value(i: usize) -> f32 {
    (i.wrapping_mul(2_654_435_761) >> 7) as f32 % 5.0 - 2.0
}

fn tensor(like: &CubeTensor, shape: [usize; 4], dtype: DType) -> CubeTensor {
    let values = (0..shape.iter().product()).map(value);
    let bytes: Vec<u8> = match dtype {
        DType::F16 => values.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    };
    let handle = like.client.create_from_slice(&bytes);
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        Shape::new(shape),
        handle,
        dtype,
    )
}

/// Returns a feature map whose values are numbered in NHWC order.
fn map(like: &CubeTensor, [batch, channels, height, width]: [usize; 4]) -> CubeTensor {
    let mut map = tensor(like, [batch, height, width, channels], DType::F16);
    map.meta.permute(&[0, 3, 1, 2]).expect("four axes");
    map
}

/// Returns the bytes of all three products of the case, y and both gradients, by matrices or by the
/// plain form.
fn products(like: &CubeTensor, unit: Option<Unit>, tile: Tile) -> Result<[Vec<u8>; 3], String> {
    let [batch, c, side, o] = CASE;
    let (x, dy) = (map(like, [batch, c, side, side]), map(like, [batch, o, side, side]));
    let weight = tensor(like, [o, c, 3, 3], DType::F32);
    let options = Conv2dOptions { tile: Some(tile), ..Conv2dOptions::same(3, 1) };
    let call = Call { unit, ..Call::new(layout::dims(&x), &weight, Types::F16, options) };
    let y = call.pass(false, &x, weight.clone(), [None, None]);
    let dx = call.pass(true, &dy, weight.clone(), [None, None]);
    let dw = gradients::of_weight(&call, x, &dy, &weight);
    let mut bytes = [Vec::new(), Vec::new(), Vec::new()];
    for (bytes, tensor) in bytes.iter_mut().zip([y, dx, dw]) {
        let read = tensor.client.read_one(tensor.handle.clone());
        *bytes = read.map_err(|e| format!("a result can't be read: {e:?}"))?.to_vec();
    }
    Ok(bytes)
}

/// Checks the products `got` against those of the plain form; the error names the one that differs.
fn compare(got: &[Vec<u8>; 3], want: &[Vec<u8>; 3]) -> Result<(), String> {
    let names = ["the result", "the gradient of x", "the gradient of the weight"];
    for (name, (got, want)) in names.iter().zip(got.iter().zip(want)) {
        if want.iter().all(|byte| *byte == 0) {
            return Err(format!("the plain form leaves {name} zero"));
        }
        if got != want {
            return Err(format!("{name} is wrong"));
        }
    }
    Ok(())
}

/// Checks all three products with every tile.
fn check(like: &CubeTensor, unit: Unit) -> Result<(), String> {
    for tile in Tile::ALL {
        let (got, want) = (products(like, Some(unit), tile)?, products(like, None, tile)?);
        compare(&got, &want)
            .map_err(|why| format!("with tiles of {}x{}, {why}", tile.bm, tile.bn))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Class;

    #[test]
    fn the_path_of_an_adapter_says_why() {
        let mut card = Profile::least(Class::Gpu);
        assert_eq!(f16_path(&card), "none (no shader-f16)");
        card.extensions.f16 = true;
        assert_eq!(f16_path(&card), "plain f16 (no cooperative matrices)");
        card.extensions = Unit::SHIM.extensions();
        assert!(f16_path(&card).starts_with("plain f16"));
    }

    /// Uses the shim in place of matrices, with the tile that compiles fastest.
    #[test]
    fn right_products_pass_and_doubled_sums_do_not() {
        let adapter = crate::device::adapters()
            .into_iter()
            .next()
            .expect("an adapter; scripts/test.sh installs a software one");
        let device = CubeDevice::Wgpu(adapter.device());
        let client = device.client();
        let handle = client.create_from_slice(&[0; 16]);
        let like = CubeTensor::new_contiguous(client, device, Shape::new([4]), handle, DType::F32);
        let [got, want] = [Some(Unit::SHIM), None]
            .map(|unit| products(&like, unit, Tile::MEDIUM).expect("products"));
        compare(&got, &want).expect("the shim's are right");
        for (i, name) in
            ["the result", "the gradient of x", "the gradient of the weight"].iter().enumerate()
        {
            let mut doubled = got.clone();
            match i {
                2 => doubled[i]
                    .as_chunks_mut()
                    .0
                    .iter_mut()
                    .for_each(|v| *v = (2.0 * f32::from_le_bytes(*v)).to_le_bytes()),
                _ => doubled[i].as_chunks_mut().0.iter_mut().for_each(|v| {
                    *v = f16::from_f32(2.0 * f16::from_le_bytes(*v).to_f32()).to_le_bytes()
                }),
            }
            assert!(compare(&doubled, &want).expect_err("doubled sums are wrong").contains(name));
        }
        let nothing = want.clone().map(|bytes| vec![0; bytes.len()]);
        assert!(compare(&nothing, &nothing).expect_err("zeros prove nothing").contains("zero"));
    }

    #[test]
    fn the_check_adds_up_small_integers() {
        let values: Vec<f32> = (0..1_000).map(value).collect();
        assert!(values.iter().all(|v| v.abs() <= 2.0 && v.fract() == 0.0));
        assert!((-2..=2).all(|v| values.contains(&(v as f32))), "all five values occur");
    }
}
