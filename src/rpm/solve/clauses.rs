//! Rich dependencies as clauses over packages.

use super::rules::Literal;
use crate::rpm::pool::Rich;
use crate::rpm::pool::providers::Providers;

/// Literals of one dependency's clauses; a dependency that needs more is as one that nothing fulfils.
const MAXIMUM_LITERALS: usize = 1 << 20;

/// An expression as a list of blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    Never,
    Always,
    Some(Vec<Vec<Literal>>),
}

/// How blocks stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All blocks, of each any literal.
    Conjunctive,
    /// Any block, of it all literals.
    Disjunctive,
}

impl Form {
    fn other(self) -> Form {
        match self {
            Form::Conjunctive => Form::Disjunctive,
            Form::Disjunctive => Form::Conjunctive,
        }
    }
}

/// Whether an expression is more than a set of packages, any of which does.
pub(super) fn is_complex(rich: &Rich) -> bool {
    match rich {
        Rich::And(..) | Rich::If(..) | Rich::Unless(..) => true,
        Rich::Or(a, b) => is_complex(a) || is_complex(b),
        Rich::One(_) | Rich::With(..) | Rich::Without(..) | Rich::Unreadable => false,
    }
}

/// The expression in a form. Blocks are sorted and without contradictions.
pub(super) fn normalize(rich: &Rich, providers: &Providers<'_>, form: Form) -> Blocks {
    let next = |part: &Rich| normalize(part, providers, form);
    let negated = |part: &Rich| invert(normalize(part, providers, form.other()));
    match rich {
        Rich::And(a, b) => and(next(a), next(b), form),
        Rich::Or(a, b) if is_complex(rich) => or(next(a), next(b), form),
        Rich::If(a, b, None) => or(next(a), negated(b), form),
        Rich::If(a, b, Some(c)) => and(or(next(a), negated(b), form), or(next(b), next(c), form), form),
        Rich::Unless(a, b, None) => and(next(a), negated(b), form),
        Rich::Unless(a, b, Some(c)) => or(and(next(a), negated(b), form), and(next(b), next(c), form), form),
        _ => {
            let packages = providers.of_rich(rich);
            let literals = packages.into_iter().map(Literal::yes);
            match form {
                Form::Conjunctive => some(vec![literals.collect()]),
                Form::Disjunctive => some(literals.map(|literal| vec![literal]).collect()),
            }
        }
    }
}

/// Invariant: what no package provides is `Never`, in both forms.
fn some(blocks: Vec<Vec<Literal>>) -> Blocks {
    match blocks.iter().any(|block| !block.is_empty()) {
        true => Blocks::Some(blocks),
        false => Blocks::Never,
    }
}

/// All literals negated; that turns one form into the other.
pub(super) fn invert(blocks: Blocks) -> Blocks {
    match blocks {
        Blocks::Never => Blocks::Always,
        Blocks::Always => Blocks::Never,
        Blocks::Some(blocks) => Blocks::Some(
            blocks.into_iter().map(|block| block.into_iter().rev().map(Literal::negated).collect()).collect(),
        ),
    }
}

fn and(left: Blocks, right: Blocks, form: Form) -> Blocks {
    match (left, right) {
        (Blocks::Never, _) | (_, Blocks::Never) => Blocks::Never,
        (Blocks::Always, other) | (other, Blocks::Always) => other,
        (Blocks::Some(left), Blocks::Some(right)) => match form {
            Form::Conjunctive => Blocks::Some([left, right].concat()),
            Form::Disjunctive => distribute(&left, &right, Blocks::Never),
        },
    }
}

fn or(left: Blocks, right: Blocks, form: Form) -> Blocks {
    match (left, right) {
        (Blocks::Always, _) | (_, Blocks::Always) => Blocks::Always,
        (Blocks::Never, other) | (other, Blocks::Never) => other,
        (Blocks::Some(left), Blocks::Some(right)) => match form {
            Form::Disjunctive => Blocks::Some([left, right].concat()),
            Form::Conjunctive => distribute(&left, &right, Blocks::Always),
        },
    }
}

/// Every block of the left joined with every one of the right; those that hold a literal and its negation say nothing.
fn distribute(left: &[Vec<Literal>], right: &[Vec<Literal>], nothing: Blocks) -> Blocks {
    let mut joined = Vec::new();
    let mut literals = 0;
    for one in left {
        for two in right {
            let mut block: Vec<Literal> = one.iter().chain(two).copied().collect();
            block.sort_unstable();
            block.dedup();
            literals += block.len();
            if literals > MAXIMUM_LITERALS {
                return Blocks::Never;
            }
            if !block.iter().any(|literal| block.binary_search(&literal.negated()).is_ok()) {
                joined.push(block);
            }
        }
    }
    if joined.is_empty() { nothing } else { Blocks::Some(joined) }
}
