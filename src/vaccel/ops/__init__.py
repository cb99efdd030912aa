"""Operations: what a program asks for, and the values that go in and come out."""
