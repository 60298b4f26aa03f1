// Package gearshiftv1 holds the messages and services of the contract gearshift.v1, generated from
// protos/gearshift/v1, where each field is described. The package gearshift is what callers use.
package gearshiftv1
