//! The few nom parsers everything shares. What they read is whole: a message was framed by its length field first.

use nom::{
    IResult, Parser,
    bytes::complete::take,
    error::{ErrorKind, ParseError},
    multi::length_data,
    number::complete::{be_u8, be_u16},
};

/// Fewer octets than the format demands: all that can go wrong in reading a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short;

impl ParseError<&[u8]> for Short {
    fn from_error_kind(_: &[u8], _: ErrorKind) -> Self {
        Self
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// What a parser left over, and what it read.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Short>;

/// Two octets of length, then that many.
pub(super) fn sized_by_u16(input: &[u8]) -> Parsed<'_, &[u8]> {
    length_data(be_u16).parse(input)
}

/// One octet of length, then that many.
pub(super) fn sized_by_u8(input: &[u8]) -> Parsed<'_, &[u8]> {
    length_data(be_u8).parse(input)
}

/// A type octet, one octet of length, then that many: a capability, an optional parameter.
pub(super) fn type_length_value(input: &[u8]) -> Parsed<'_, (u8, &[u8])> {
    (be_u8, sized_by_u8).parse(input)
}

/// A type octet, two octets of length, then that many: an extended optional parameter (RFC 9072 §2).
pub(super) fn type_extended_length_value(input: &[u8]) -> Parsed<'_, (u8, &[u8])> {
    (be_u8, sized_by_u16).parse(input)
}

/// Exactly `N` octets from the front.
pub(super) fn octets<const N: usize>(input: &[u8]) -> Parsed<'_, [u8; N]> {
    let (rest, taken) = take(N)(input)?;
    let taken = <[u8; N]>::try_from(taken).map_err(|_| nom::Err::Error(Short))?;
    Ok((rest, taken))
}

/// The value, if nothing is left over behind it.
pub(super) fn only<T>(parsed: Parsed<'_, T>) -> Result<T, Short> {
    match parsed {
        Ok(([], value)) => Ok(value),
        _ => Err(Short),
    }
}

/// Every element of a list that fills `input`: unlike `many0` it does not stop silently at the first malformed one.
pub(super) fn each<'a, T>(
    mut input: &'a [u8],
    mut element: impl FnMut(&'a [u8]) -> Parsed<'a, T>,
) -> Result<Vec<T>, Short> {
    let mut list = Vec::new();
    while !input.is_empty() {
        let (rest, item) = element(input).map_err(|_| Short)?;
        list.push(item);
        input = rest;
    }
    Ok(list)
}
