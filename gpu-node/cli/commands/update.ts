import { InvalidArgumentError, Option, type Command } from 'commander'
import { patternError } from '@copal/shared/mask/sparsity-pattern.ts'
import { type CreateUpdate, updateEntry, type UpdateEntry } from '@copal/shared/wire/admin.ts'
import type { PatternRules } from '@copal/shared/wire/selection.ts'
import { updateStateWord } from '@copal/shared/wire/update-states.ts'
import { withCommands } from '../api/command-wording.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { followUpdate } from '../api/follow-update.ts'
import {
  patternsOption,
  leaveOutOption,
  readPatternRules,
  type PatternRuleOptions,
} from '../options/pattern-options.ts'
import { createProgressBar } from '../output/progress-bar.ts'
import { formatMask } from '@copal/gpu-node/platform/quantities.ts'
import type { Session } from '../api/session.ts'
import { wholeNumber } from '../options/option-parsers.ts'

interface UpdateOptions extends PatternRuleOptions {
  json?: boolean
  detach?: boolean
  model?: string
  method?: string
  pattern?: string
  scope?: 'row' | 'matrix'
  samples?: number
  length?: number
  seed?: number
}

export function addUpdate(program: Command, session: Session): void {
  program
    .command('update')
    .description(
      'calibrate on the sampled texts of the domains, and swap to the new mask if it passes the gate',
    )
    .argument('<domain...>', 'the domains to calibrate on; domains of earlier updates still count')
    .option('--model <id>', 'which model, if the fleet serves several')
    .option(
      '--method <name>',
      'how weights are chosen, see npx copal methods (default: that of the policy, or else the best one that the nodes offer)',
    )
    .option(
      '--pattern <pattern>',
      'fraction of weights to prune, like 0.4, or n of m weights to keep, like 2:4 (default: that of the policy, or else of the mask that serves, or else 0.5)',
      pattern,
    )
    .addOption(patternsOption())
    .addOption(leaveOutOption())
    .addOption(
      new Option(
        '--scope <scope>',
        'which weights compete: those of a row or of a matrix; with +rows always those of a matrix',
      ).choices(['row', 'matrix']),
    )
    .option('--samples <n>', 'calibration samples per domain (default: that of the policy)', wholeNumber)
    .option('--length <tokens>', 'tokens per sample (default: that of the policy)', wholeNumber)
    .option('--seed <n>', 'seed for drawing the samples', wholeNumber)
    .option('-d, --detach', 'start the update and return at once')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal update legal\n  npx copal update legal support --pattern 0.4 --samples 32\n  npx copal update legal --pattern 2:4 --method copal\n  npx copal update legal --leave-out "model.layers.0.*"\n  npx copal update legal --detach --json',
    )
    .action(async (domains: string[], options: UpdateOptions) => {
      const client = session.client()
      const created = await client.admin(
        'POST',
        '/updates',
        updateEntry,
        requestBody(domains, options, session.terminal.cwd),
      )
      if (options.detach) {
        session.print(
          options.json,
          created,
          () => `Started update ${created.id}. Follow it with: npx copal updates ${created.id}`,
        )
        return
      }
      const bar = createProgressBar(session.terminal.stderr)
      const ended = await followUpdate(client, created.id, bar, session.terminal.signal)
      session.print(options.json, ended, () => describeEnd(ended))
      if (ended.state !== 'promoted')
        throw new UserError(ended.error?.code ?? ended.state, describeFailure(ended))
    })
}

function requestBody(domains: string[], options: UpdateOptions, cwd: string): CreateUpdate {
  const patterns = readPatternRules(options, cwd)
  const selection = {
    ...(options.method ? { method: options.method } : {}),
    ...(options.pattern ? { pattern: options.pattern } : {}),
    ...(options.scope ? { scope: options.scope } : {}),
    // The gateway rejects a value that is not an object of patterns.
    ...(JSON.stringify(patterns) === '{}' ? {} : { patterns: patterns as PatternRules }),
  }
  return {
    domains,
    selection,
    ...(options.model ? { model: options.model } : {}),
    ...(options.samples === undefined ? {} : { samples: options.samples }),
    ...(options.length === undefined ? {} : { length: options.length }),
    ...(options.seed === undefined ? {} : { seed: options.seed }),
  }
}

/** Describes how an update has ended. */
export function describeEnd(update: UpdateEntry): string {
  if (update.state !== 'promoted' || update.mask_version === null)
    return `Update ${update.id}: ${updateStateWord(update)}.`
  return `${formatMask(update.mask_version)} is live: ${update.method}, ${update.pattern}. See: npx copal drift`
}

/** Describes why an update has ended without promoting its mask. */
export function describeFailure(update: UpdateEntry): string {
  return withCommands(update.error?.message ?? `The update ended as ${updateStateWord(update)}.`)
}

function pattern(text: string): string {
  const fault = patternError(text)
  if (fault !== undefined) throw new InvalidArgumentError(`${fault}.`)
  return text
}
