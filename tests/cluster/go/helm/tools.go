// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package helm names the commands to build, so that go.sum covers what they need.
package helm

import (
	_ "helm.sh/helm/v4/cmd/helm"
)
