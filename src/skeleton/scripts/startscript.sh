#!/bin/sh
# What an instance of this container runs; nothing until %startscript says so.
