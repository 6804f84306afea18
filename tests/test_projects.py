"""The contract suite over the shipped projects, as users run it on theirs."""

from fti.projects.flights import project as flights
from fti.testing import contract

test_flights = contract(flights)
