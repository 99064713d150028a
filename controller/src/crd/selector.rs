//! A label selector that takes no unknown field: a slip of the pen must not select every node.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema::cel;

/// Labels as an object bears them.
pub(crate) type Labels = BTreeMap<String, String>;

/// Selects by labels; an empty one selects all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct LabelSelector {
    /// Every one of these must be there with this value.
    #[schemars(extend("maxProperties" = 64))]
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub(crate) match_labels: Labels,
    /// Every one of these must hold.
    #[schemars(length(max = 32))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) match_expressions: Vec<Requirement>,
}

/// One condition on a label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    "In and NotIn need values, Exists and DoesNotExist take no values",
)])))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Requirement {
    /// The label.
    pub(crate) key: String,
    /// How its value is compared.
    pub(crate) operator: Operator,
    /// With what; not for `Exists` and `DoesNotExist`.
    #[schemars(length(max = 64))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) values: Vec<String>,
}

/// How a label's value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Operator {
    /// Its value is one of these.
    In,
    /// It is absent or its value none of these.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: &Labels) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(labels))
    }

    /// Whether it selects everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Rules as the API server has them.
    pub(crate) fn check(&self, field: &str, verdicts: &mut super::Verdicts) {
        for requirement in &self.match_expressions {
            let listed = matches!(requirement.operator, Operator::In | Operator::NotIn);
            verdicts.demand(
                listed != requirement.values.is_empty(),
                &format!("{field}.matchExpressions"),
                format!(
                    "{}: {:?} {}",
                    requirement.key,
                    requirement.operator,
                    if listed {
                        "needs values"
                    } else {
                        "takes no values"
                    }
                ),
            );
        }
    }
}

impl Requirement {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}
