// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package coredns names the commands to build, so that go.sum covers what they need.
package coredns

import (
	_ "github.com/coredns/coredns"
)
