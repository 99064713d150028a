//! What an answer is made of: one piece of text, or parts as they come.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    /// One piece; `None` once it is sent.
    Whole(Option<Bytes>),
    /// Parts until the sender ends.
    Parts(mpsc::Receiver<Bytes>),
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self::Whole(Some(text.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Self::Parts(parts) => parts
                .poll_recv(context)
                .map(|part| part.map(|part| Ok(Frame::data(part)))),
        }
    }

    /// Known for one piece, so that it is sent with its length and not in chunks.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => {
                let octets = text.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(octets).unwrap_or(u64::MAX))
            }
            Self::Parts(_) => SizeHint::default(),
        }
    }
}
