//! Shapes with exact areas.

use numbers::Fraction;

pub trait Shape {
    fn name(&self) -> &'static str;
    fn area(&self) -> Fraction;
}

pub struct Rectangle(pub Fraction, pub Fraction);
pub struct Triangle(pub Fraction, pub Fraction);

impl Shape for Rectangle {
    fn name(&self) -> &'static str {
        "rectangle"
    }
    fn area(&self) -> Fraction {
        self.0 * self.1
    }
}

impl Shape for Triangle {
    fn name(&self) -> &'static str {
        "triangle"
    }
    fn area(&self) -> Fraction {
        self.0 * self.1 * Fraction::new(1, 2)
    }
}

pub fn total(shapes: &[Box<dyn Shape>]) -> Fraction {
    shapes.iter().fold(Fraction::new(0, 1), |sum, shape| sum + shape.area())
}
