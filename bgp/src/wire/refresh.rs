//! ROUTE-REFRESH: "tell me all of it again" (RFC 2918, RFC 7313).

use crate::prefix::Family;

/// A ROUTE-REFRESH message for one of our families; a refresh of another family is ignored on reading (RFC 2918 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Which family.
    pub family: Family,
    /// What it asks or marks.
    pub kind: RefreshKind,
}

/// The message subtype of RFC 7313 §3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// 0: please send everything again.
    Request,
    /// 1: what follows is everything (BoRR).
    Begin,
    /// 2: that was everything (EoRR).
    End,
}
