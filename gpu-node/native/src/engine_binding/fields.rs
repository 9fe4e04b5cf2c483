//! Reading the properties of arguments.
//!
//! Reading a property may run JavaScript: a getter or a proxy. Converting a value that was read runs none. So a caller
//! first reads all properties, each once, and then converts the values; typed arrays that it borrows stay valid until
//! it returns.

use super::errors::{Code, Error, Result, invalid};
use napi::bindgen_prelude::{
    Float32ArraySlice, Float64ArraySlice, FromNapiValue, Int32ArraySlice, JsValue, Uint8ArraySlice,
    Uint32ArraySlice, Unknown,
};
use napi::{Status, sys};
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;

/// Offsets and ids are doubles: whole numbers are exact up to here.
const MAX_EXACT: usize = 1 << 53;

/// A value that was read from a property.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    name: &'static CStr,
    env: sys::napi_env,
    value: sys::napi_value,
    call: PhantomData<&'a ()>,
}

/// Reads the named properties of an argument, in this order.
pub fn read<'a, const N: usize>(argument: &Unknown<'a>, names: [&'static CStr; N]) -> Result<[Field<'a>; N]> {
    let value = argument.value();
    let argument = Field { name: c"the argument", env: value.env, value: value.value, call: PhantomData };
    argument.read(names)
}

impl<'a> Field<'a> {
    /// Reads the named properties of the object that the field holds, in this order.
    pub fn read<const N: usize>(self, names: [&'static CStr; N]) -> Result<[Field<'a>; N]> {
        if self.kind()? != sys::ValueType::napi_object {
            return Err(self.wrong("an object"));
        }
        let mut fields = [self; N];
        for (field, name) in fields.iter_mut().zip(names) {
            let mut value = ptr::null_mut();
            // SAFETY: the object belongs to the running call, and the name ends with a zero byte.
            check(unsafe { sys::napi_get_named_property(self.env, self.value, name.as_ptr(), &mut value) })?;
            *field = Field { name, value, ..self };
        }
        Ok(fields)
    }

    /// Reads the elements of the array that the field holds.
    pub fn elements(self) -> Result<Vec<Field<'a>>> {
        let (mut is_array, mut length) = (false, 0);
        // SAFETY: the value belongs to the running call.
        check(unsafe { sys::napi_is_array(self.env, self.value, &mut is_array) })?;
        if !is_array {
            return Err(self.wrong("an array"));
        }
        // SAFETY: as above.
        check(unsafe { sys::napi_get_array_length(self.env, self.value, &mut length) })?;
        let element = |index| {
            let mut value = ptr::null_mut();
            // SAFETY: as above.
            check(unsafe { sys::napi_get_element(self.env, self.value, index, &mut value) })?;
            Ok(Field { value, ..self })
        };
        (0..length).map(element).collect()
    }

    /// `None` for `undefined` and `null`.
    pub fn optional(self) -> Result<Option<Field<'a>>> {
        let kind = self.kind()?;
        let is_missing = kind == sys::ValueType::napi_undefined || kind == sys::ValueType::napi_null;
        Ok((!is_missing).then_some(self))
    }

    /// A number, also one that is not finite.
    pub fn number(self) -> Result<f64> {
        let mut number = 0.0;
        // SAFETY: the value belongs to the running call.
        match unsafe { sys::napi_get_value_double(self.env, self.value, &mut number) } {
            sys::Status::napi_ok => Ok(number),
            _ => Err(self.wrong("a number")),
        }
    }

    /// A whole number from 1 to `max`.
    pub fn count(self, max: usize) -> Result<usize> {
        count(&self.name(), self.number()?, max)
    }

    /// A place in a file, in bytes, or a number of things: a whole number from 0.
    pub fn whole(self) -> Result<usize> {
        let number = self.number()?;
        let whole = whole(number).map(|number| number as usize);
        whole.ok_or_else(|| invalid(format!("{} must be a whole number from 0, not {number}", self.name())))
    }

    /// A string.
    pub fn text(self) -> Result<String> {
        self.convert("a string")
    }

    /// A `Float32Array`.
    pub fn f32_array(self) -> Result<Float32ArraySlice<'a>> {
        self.convert("a Float32Array")
    }

    /// A `Float64Array`.
    pub fn f64_array(self) -> Result<Float64ArraySlice<'a>> {
        self.convert("a Float64Array")
    }

    /// A `Int32Array`.
    pub fn i32_array(self) -> Result<Int32ArraySlice<'a>> {
        self.convert("an Int32Array")
    }

    /// A `Uint8Array`.
    pub fn u8_array(self) -> Result<Uint8ArraySlice<'a>> {
        self.convert("a Uint8Array")
    }

    /// A `Uint32Array`.
    pub fn u32_array(self) -> Result<Uint32ArraySlice<'a>> {
        self.convert("a Uint32Array")
    }

    /// The error for a value of another type than `expected`.
    pub fn wrong(self, expected: &str) -> Error {
        invalid(format!("{} must be {expected}", self.name()))
    }

    fn convert<T: FromNapiValue>(self, expected: &str) -> Result<T> {
        // SAFETY: the value belongs to the running call. The conversions that are used here run no JavaScript, and
        // check the type themselves.
        unsafe { T::from_napi_value(self.env, self.value) }.map_err(|_| self.wrong(expected))
    }

    fn kind(self) -> Result<sys::napi_valuetype> {
        let mut kind = 0;
        // SAFETY: the value belongs to the running call.
        check(unsafe { sys::napi_typeof(self.env, self.value, &mut kind) })?;
        Ok(kind)
    }

    fn name(&self) -> std::borrow::Cow<'static, str> {
        self.name.to_string_lossy()
    }
}

/// A whole number from 1 to `max`.
pub fn count(name: &str, value: f64, max: usize) -> Result<usize> {
    if value.fract() == 0.0 && value >= 1.0 && value <= max as f64 {
        return Ok(value as usize);
    }
    Err(invalid(format!("{name} must be a whole number from 1 to {max}, not {value}")))
}

/// A whole number from 0 to below `end`.
pub fn index(name: &str, value: f64, end: usize) -> Result<usize> {
    match whole(value) {
        Some(index) if index < end as u64 => Ok(index as usize),
        _ => Err(invalid(format!("{name} must be a whole number from 0 to {}, not {value}", end - 1))),
    }
}

/// A whole number from 0 that a double holds exactly.
pub(super) fn whole(number: f64) -> Option<u64> {
    (number.fract() == 0.0 && (0.0..=MAX_EXACT as f64).contains(&number)).then_some(number as u64)
}

/// An exception that a getter threw stays pending, and is what the caller gets.
fn check(status: sys::napi_status) -> Result<()> {
    match status {
        sys::Status::napi_ok => Ok(()),
        status => Err(Error::new(Code::Napi(Status::from(status)), "a property cannot be read".to_owned())),
    }
}
