"""The emulated world: sandbox, bring-up, replay. Real TCP through Open vSwitch on Mininet."""
