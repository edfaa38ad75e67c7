//! Protocol servers that stand in for clouds.

pub mod aws;
pub mod azure;
pub mod gcp;
pub mod scripted;
