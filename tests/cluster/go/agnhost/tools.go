// SPDX-License-Identifier: Apache-2.0

//go:build tools

// Package agnhost names the command to build, so that go.sum covers what it needs.
package agnhost

import _ "k8s.io/kubernetes/test/images/agnhost"
