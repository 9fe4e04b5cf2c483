import type { Command } from 'commander'
import { policyReport, type PolicyOverrides, type PolicyReport } from '@copal/shared/wire/admin-policy.ts'
import { policySettings } from '@copal/shared/wire/policy-settings.ts'
import { modelQuery } from '../input/mask-argument.ts'
import { withSettings } from '../input/policy-settings.ts'
import { retryConflicts } from '../api/retry-conflicts.ts'
import type { Session } from '../api/session.ts'

interface PolicyOptions {
  model?: string
  json?: boolean
}

/** Adds `copal policy`. */
export function addPolicy(program: Command, session: Session): void {
  const policy = program
    .command('policy')
    .description(
      'when updates start, what they may cost, and the rules that a new mask must meet: show, set, reset',
    )
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal policy show\n  npx copal policy set gate.max_regression=1.08 canary.enabled=true',
    )
  const addOptions = (command: Command) =>
    command.option('--model <id>', 'which model, if the fleet serves several').option('--json', 'print JSON')
  const put = async (model: string | undefined, changes: PolicyOverrides & { revision?: number }) =>
    session
      .client()
      .admin('PUT', '/policy', policyReport, { ...changes, ...(model === undefined ? {} : { model }) })
  const find = (model: string | undefined) =>
    session.client().admin('GET', `/policy${modelQuery(model)}`, policyReport)

  /** Adds settings to those that are set, again if another operator sets some in between. */
  const change = (model: string | undefined, settings: readonly string[]): Promise<PolicyReport> =>
    retryConflicts(async () => {
      const { overrides, revision } = await find(model)
      return put(model, { ...withSettings(overrides, settings), revision })
    })

  addOptions(policy.command('show').description('show the policy in force'))
    .addHelpText('after', '\nExample:\n  npx copal policy show')
    .action(async ({ model, json }: PolicyOptions) => {
      const report = await find(model)
      session.print(json, report, () => describe(report, session))
    })

  addOptions(
    policy
      .command('set')
      .description('change settings; the others stay as they are')
      .argument('<setting...>', 'settings like gate.max_regression=1.08; see npx copal policy show'),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal policy set gate.max_regression=1.08\n  npx copal policy set preset=production confirm=2\n  npx copal policy set statistics.weights=legal:2,code:1\n  npx copal policy set triggers.quiet_hours=22:00-06:00',
    )
    .action(async (settings: string[], { model, json }: PolicyOptions) => {
      // Checked before the gateway is called.
      withSettings({}, settings)
      const report = await change(model, settings)
      session.print(json, report, () => describe(report, session))
    })

  addOptions(policy.command('reset').description('return to the preset of the deployment'))
    .addHelpText('after', '\nExample:\n  npx copal policy reset')
    .action(async ({ model, json }: PolicyOptions) => {
      const report = await put(model, {})
      session.print(json, report, () => describe(report, session))
    })
}

function describe(report: PolicyReport, session: Session): string {
  const { model, policy, overrides, preset_policy: preset, deployment_preset: deployment } = report
  const changed = new Set(policySettings(overrides).map(([name]) => name))
  const before = new Map(policySettings({ ...preset, preset: deployment }))
  const table = session.table(
    [
      { title: 'SETTING', value: ([name]) => name },
      { title: 'VALUE', value: ([, value]) => describeValue(value), shrinks: true },
      {
        title: 'CHANGED FROM',
        value: ([name]) => (changed.has(name) ? describeValue(before.get(name)) : ''),
      },
    ],
    policySettings(policy),
  )
  return `Policy of ${model}\n\n${table}`
}

function describeValue(value: unknown): string {
  if (typeof value === 'string') return value
  if (typeof value !== 'object' || value === null) return String(value)
  return Object.entries(value)
    .map(([domain, weight]) => `${domain}:${weight}`)
    .join(',')
}
