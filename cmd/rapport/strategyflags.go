package main

import (
	"errors"

	"rapport/sdk/abi"
	"rapport/server"
)

// strategyFlags are the settings of which strategies may run, and what they may use.
// They are flags of all commands, because any that is given --data opens the folder
// as a server does.
type strategyFlags struct {
	TrustedKeys              string `help:"Public keys of which one must have signed each strategy in a data folder: in base64 or hexadecimal, or files with one a line; separated by commas." placeholder:"KEYS" setting:"" group:"global"`
	StrategyFuel             int    `help:"Fuel for a call of a strategy, unless it asks for less: about one unit an instruction." default:"${fuel}" placeholder:"N" setting:"" group:"global"`
	StrategyFuelPerCandidate int    `help:"Fuel besides for each candidate that it ranks." default:"${fuel_per_candidate}" placeholder:"N" setting:"" group:"global"`
	StrategyMemoryPages      int    `help:"Most memory of an instance of a strategy, in pages of 64 KiB." default:"${memory_pages}" placeholder:"N" setting:"" group:"global"`
}

// apply puts the settings into a server's configuration.
func (f *strategyFlags) apply(c *server.Config) (err error) {
	if f.StrategyFuel == 0 && f.StrategyFuelPerCandidate == 0 {
		return errors.New("strategy-fuel: without any fuel no strategy can rank: give at least one of strategy-fuel and strategy-fuel-per-candidate")
	}
	c.StrategyFuel = abi.Fuel{Base: int64(f.StrategyFuel), PerCandidate: int64(f.StrategyFuelPerCandidate)}
	if f.StrategyMemoryPages == 0 {
		return errors.New("strategy-memory-pages: without memory no strategy can run: give 1 or more")
	}
	c.StrategyMemoryPages = f.StrategyMemoryPages
	c.TrustedKeys, err = trustedKeys(f.TrustedKeys)
	return err
}
