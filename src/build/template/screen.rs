//! Refuses what fuel does not bound.
//!
//! The engine charges for what a step has made, after it has made it. A list
//! that holds one list many times, which holds another one many times, and so
//! on, costs next to nothing to make; as text it would fill any memory in one
//! step. So no step may put a container into another one: lists and maps are
//! written only where they go straight into a helper that bounds its own
//! output. What remains is never larger than what was read.

use minijinja::{
    machinery::{
        ast::{BinOpKind, CallArg, CompareOpKind, Expr, Stmt},
        parse,
    },
    syntax::SyntaxConfig,
};

use super::{connections, trouble::Trouble};

/// Filters that bound their own output, whatever they are given.
const TAKE_LITERALS: [&str; 4] = ["tojson", "toyaml", "dotenv", "join"];

/// What there is. The engine's others multiply what they are given, or mark
/// text for HTML.
pub(super) const FILTERS: &[&str] = &[
    "abs",
    "b64decode",
    "b64encode",
    "b64urldecode",
    "b64urlencode",
    "bool",
    "capitalize",
    "d",
    "default",
    "dictsort",
    "dotenv",
    "first",
    "float",
    "fromjson",
    "fromyaml",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "max",
    "min",
    "pem_certificates",
    "pem_keys",
    "pkcs12_certificates",
    "pkcs12_key",
    "replace",
    "reverse",
    "round",
    "sort",
    "split",
    "string",
    "title",
    "tojson",
    "toyaml",
    "trim",
    "unique",
    "upper",
    "urlencode",
];

const NO_LITERAL: &str = "it puts values into a list or map that is used otherwise than in a loop, in a test with in, \
                          as options, or by tojson, toyaml, dotenv or join";
const NO_OPERATOR: &str = "it uses + or *: put text together with ~";
const NO_TEMPLATE: &str = "it uses another template: templates stand alone here";
const NO_SPLAT: &str = "it calls something with * or **: write the arguments one by one";

/// # Errors
/// Where the template is none, or does what is not allowed.
pub(super) fn screen(source: &str, syntax: SyntaxConfig) -> Result<(), Trouble> {
    let template = parse(source, "template", syntax).map_err(|error| Trouble::of(&error, Vec::new()))?;
    statement(&template)
}

fn statements(all: &[Stmt<'_>]) -> Result<(), Trouble> {
    all.iter().try_for_each(statement)
}

fn statement(one: &Stmt<'_>) -> Result<(), Trouble> {
    match one {
        Stmt::Template(template) => statements(&template.children),
        Stmt::EmitRaw(_) => Ok(()),
        Stmt::EmitExpr(emit) => expression(&emit.expr),
        Stmt::ForLoop(each) => {
            literal_or(&each.iter)?;
            each.filter_expr.iter().try_for_each(expression)?;
            statements(&each.body)?;
            statements(&each.else_body)
        }
        Stmt::IfCond(condition) => {
            expression(&condition.expr)?;
            statements(&condition.true_body)?;
            statements(&condition.false_body)
        }
        Stmt::WithBlock(with) => {
            with.assignments.iter().try_for_each(|(_, value)| expression(value))?;
            statements(&with.body)
        }
        Stmt::Set(set) => expression(&set.expr),
        Stmt::SetBlock(set) => {
            set.filter.iter().try_for_each(expression)?;
            statements(&set.body)
        }
        Stmt::AutoEscape(_) => Err(Trouble::new("it marks text for HTML, which a Secret is not: leave out autoescape")),
        Stmt::FilterBlock(block) => {
            expression(&block.filter)?;
            statements(&block.body)
        }
        Stmt::Block(_) | Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {
            Err(Trouble::new(NO_TEMPLATE))
        }
        Stmt::Macro(made) => {
            if takes_literals(made.name) {
                return Err(Trouble::new("it names a macro as a function is named: choose another name"));
            }
            made.defaults.iter().try_for_each(expression)?;
            statements(&made.body)
        }
        Stmt::CallBlock(block) => {
            expression(&block.call.expr)?;
            arguments(&block.call.args, false)?;
            block.macro_decl.defaults.iter().try_for_each(expression)?;
            statements(&block.macro_decl.body)
        }
        Stmt::Do(call) => {
            expression(&call.call.expr)?;
            arguments(&call.call.args, false)
        }
    }
}

/// A literal where one may stand, or any expression.
fn literal_or(one: &Expr<'_>) -> Result<(), Trouble> {
    match one {
        Expr::List(list) => list.items.iter().try_for_each(literal_or),
        Expr::Tuple(tuple) => tuple.items.iter().try_for_each(literal_or),
        Expr::Map(map) => map.keys.iter().chain(&map.values).try_for_each(literal_or),
        other => expression(other),
    }
}

fn expression(one: &Expr<'_>) -> Result<(), Trouble> {
    match one {
        Expr::Var(_) | Expr::Const(_) => Ok(()),
        // Of constants alone, it is as large as the template says.
        Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) if one.as_const().is_some() => literal_or(one),
        Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => Err(Trouble::new(NO_LITERAL)),
        Expr::Slice(slice) => {
            let bounds = [&slice.start, &slice.stop, &slice.step];
            expression(&slice.expr)?;
            bounds.into_iter().flatten().try_for_each(expression)
        }
        Expr::UnaryOp(unary) => expression(&unary.expr),
        Expr::BinOp(binary) => {
            if matches!(binary.op, BinOpKind::Add | BinOpKind::Mul) {
                return Err(Trouble::new(NO_OPERATOR));
            }
            expression(&binary.left)?;
            if matches!(binary.op, BinOpKind::In) { literal_or(&binary.right) } else { expression(&binary.right) }
        }
        Expr::Compare(compare) => {
            expression(&compare.expr)?;
            compare.ops.iter().try_for_each(|next| match next.op {
                CompareOpKind::In | CompareOpKind::NotIn => literal_or(&next.expr),
                _ => expression(&next.expr),
            })
        }
        Expr::IfExpr(choice) => {
            expression(&choice.test_expr)?;
            expression(&choice.true_expr)?;
            choice.false_expr.iter().try_for_each(expression)
        }
        Expr::Filter(filter) => {
            if !FILTERS.contains(&filter.name) {
                return Err(Trouble::new("it uses a filter that does not exist: correct its name"));
            }
            let bounded = TAKE_LITERALS.contains(&filter.name);
            filter.expr.iter().try_for_each(|input| if bounded { literal_or(input) } else { expression(input) })?;
            arguments(&filter.args, false)
        }
        Expr::Test(test) => {
            expression(&test.expr)?;
            arguments(&test.args, false)
        }
        Expr::GetAttr(get) => expression(&get.expr),
        Expr::GetItem(get) => {
            expression(&get.expr)?;
            expression(&get.subscript_expr)
        }
        Expr::Call(call) => {
            expression(&call.expr)?;
            arguments(&call.args, matches!(&call.expr, Expr::Var(function) if takes_literals(function.id)))
        }
    }
}

fn takes_literals(function: &str) -> bool {
    connections::SCHEMES.iter().any(|scheme| scheme.function == function)
}

fn arguments(all: &[CallArg<'_>], literals: bool) -> Result<(), Trouble> {
    all.iter().try_for_each(|argument| match argument {
        CallArg::Pos(value) | CallArg::Kwarg(_, value) => {
            if literals {
                literal_or(value)
            } else {
                expression(value)
            }
        }
        CallArg::PosSplat(_) | CallArg::KwargSplat(_) => Err(Trouble::new(NO_SPLAT)),
    })
}
