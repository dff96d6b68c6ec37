#!/bin/sh
# Tests of fizz: one line a test, exit code 1 when one fails.
cd "$(dirname "$0")" || exit 2
. ./fizz.sh
failed=0

check() { # check NAME EXPECTED ACTUAL
    if [ "$2" = "$3" ]; then
        echo "ok      $1"
    else
        echo "FAILED  $1: expected '$2', got '$3'"
        failed=1
    fi
}

check "the first number is itself" 1 "$(fizz 5 | head -n 1)"
check "three is Fizz" Fizz "$(fizz 10 | sed -n 3p)"
check "five is Buzz" Buzz "$(fizz 10 | sed -n 5p)"
check "fifteen is FizzBuzz" FizzBuzz "$(fizz 20 | sed -n 15p)"
check "fizz 15 says fifteen lines" 15 "$(fizz 15 | wc -l | tr -d ' ')"
exit $failed
