#!/bin/sh
# What the init script does: make this folder a repository, so that the fix shows as a diff.
set -e
chmod +x fizz.sh test.sh
git init -q -b main
git add -A
git -c user.name=Caged -c user.email=demo@caged.invalid commit -qm 'fizz, with a test that fails'
echo "ready: $(git rev-parse --short HEAD)"
