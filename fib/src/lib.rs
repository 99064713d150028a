//! Keeps kernel routes equal to desired ones.
