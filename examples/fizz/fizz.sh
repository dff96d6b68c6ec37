#!/bin/sh
# fizz N: the numbers 1 to N, one a line; multiples of 3 say Fizz, of 5 Buzz, of both FizzBuzz.
fizz() {
    i=1
    while [ "$i" -lt "$1" ]; do
        if [ $((i % 15)) -eq 0 ]; then
            echo FizzBuzz
        elif [ $((i % 3)) -eq 0 ]; then
            echo Fizz
        elif [ $((i % 5)) -eq 0 ]; then
            echo Buzz
        else
            echo "$i"
        fi
        i=$((i + 1))
    done
}
