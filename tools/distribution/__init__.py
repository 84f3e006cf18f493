"""`make dist`: the wheel and the source distribution, built, and then tried as a user gets them."""
