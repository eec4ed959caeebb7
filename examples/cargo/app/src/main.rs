//! Uses every crate of the workspace.

use macros::Describe;
use numbers::Fraction;
use shapes::{Rectangle, Shape, Triangle};

#[derive(Describe)]
#[allow(dead_code)]
struct Plot {
    width: Fraction,
    depth: Fraction,
}

fn main() {
    let half = Fraction::new(1, 2);
    let shapes: Vec<Box<dyn Shape>> = vec![
        Box::new(Rectangle(half, Fraction::new(3, 4))),
        Box::new(Triangle(half, half)),
    ];
    for shape in &shapes {
        let Fraction { over, under } = shape.area();
        println!("{}: {over}/{under}", shape.name());
    }
    println!("total: {:?}", shapes::total(&shapes));
    println!("{}", Plot::describe());
    println!("{} by {}", tables::SQUARES[12], tables::MADE_BY);
    println!("{:?}", text::counts("The cat and the dog and the other cat"));
}
