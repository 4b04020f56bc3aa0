#!/bin/sh
# Sourced first of all environment scripts; sets nothing.
