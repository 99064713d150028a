//! What the routelets of a lab say, overheard from their first word on, for the independent judge.

use anyhow::{Result, ensure};

use crate::capture::Capture;
use crate::container::Container;
use crate::dissect::{self, AsNumbers, Judgement};

/// BGP, and BFD over one hop and several.
const FILTER: &str = "tcp port 179 or udp port 3784 or udp port 4784";

/// What each of them says on whichever of its links.
#[derive(Debug, Default)]
pub struct Overheard {
    speakers: Vec<(String, Capture)>,
}

impl Overheard {
    /// Listens to what this node says, and to nothing that it is told.
    pub fn listen(&mut self, node: &Container, file: &std::path::Path) -> Result<()> {
        let capture = Capture::outgoing(node, "any", FILTER, file)?;
        self.speakers.push((node.name.clone(), capture));
        Ok(())
    }

    /// Ends it. Somebody must have spoken, and nothing may be malformed, or an error of an expert's.
    pub fn judge(self) -> Result<()> {
        let mut all = Judgement::default();
        for (name, capture) in self.speakers {
            let said = capture.stop()?;
            // All speakers of the topologies know four octets.
            let judgement = dissect::judge(said.file(), AsNumbers::FourOctets, "frame")?;
            println!("{name}: the dissector makes of what it said {judgement:?}");
            all.add(judgement);
        }
        ensure!(all.kinds.contains_key("UPDATE"), "no UPDATE was overheard");
        ensure!(all.faults.is_empty(), "{:#?}", all.faults);
        Ok(())
    }
}
