package main

import (
	"context"
	"math"
	"time"

	"connectrpc.com/connect"

	rapportv1 "rapport/server/api/rapport/v1"
)

// channelCmd is about channels.
type channelCmd struct {
	Load channelLoadCmd `cmd:"" help:"Say how full a channel is, for now."`
}

// channelLoadCmd reports the load of a channel.
type channelLoadCmd struct {
	Channel string        `arg:"" help:"The channel, as in the catalogue."`
	Load    float64       `arg:"" name:"value" help:"Its load, in the measure of its pressure in the catalogue: such as 0.9 for nine tenths of what it can take."`
	For     time.Duration `help:"How long it holds, 1s to 24h, unless another report comes first." default:"1m" placeholder:"5m"`
}

// Help is shown by --help.
func (channelLoadCmd) Help() string {
	return `From a channel's ` + "`pressure: {above, weight}`" + ` in the catalogue on, its candidates are multiplied with the weight;
strategies may read the load too. It shifts the ranking and withholds nothing: that is what capacities
are for. After its time the channel counts as empty. A load is kept in memory, by the running server.

Examples:

	rapport channel load agent 0.95
	rapport channel load store 1.2 --for 30m`
}

// Run reports the load.
func (cmd *channelLoadCmd) Run(ctx context.Context, a *app) error {
	switch {
	case math.IsNaN(cmd.Load) || cmd.Load < 0 || cmd.Load > 1e6:
		return usagef("a load of %v is out of range: use 0 to 1000000", cmd.Load)
	case cmd.For < time.Second || cmd.For > 24*time.Hour || cmd.For%time.Second != 0:
		return usagef("--for %v is out of range: use whole seconds, 1s to 24h", cmd.For)
	}
	_, data, err := a.target.choose()
	if err != nil {
		return err
	}
	if data != "" {
		return usagef("a load is kept in the memory of a running server: give --server URL, not the data folder %s", data)
	}
	return a.call(ctx, func(c *clients) error {
		r, err := c.decisions.ReportLoads(ctx, connect.NewRequest(&rapportv1.ReportLoadsRequest{
			Loads: []*rapportv1.ChannelLoad{{Channel: cmd.Channel, Load: cmd.Load, Seconds: int32(cmd.For / time.Second)}},
		}))
		if err != nil {
			return err
		}
		if a.json {
			return a.printMessage(r.Msg)
		}
		writef(a.out, "channel %s has load %s until %s\n", printable(cmd.Channel), formatNumber(cmd.Load), time.Now().Add(cmd.For).UTC().Format(time.RFC3339))
		return nil
	})
}
