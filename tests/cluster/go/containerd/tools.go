// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package containerd names the commands to build, so that go.sum covers what they need.
package containerd

import (
	_ "github.com/containerd/containerd/v2/cmd/containerd"
	_ "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/v2/cmd/ctr"
)
