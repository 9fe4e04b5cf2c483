import type { Command } from 'commander'

/** Adds `copal lab` without its subcommands, which `addLabCommands` adds: they bring the laboratory with them. */
export function addLab(program: Command): void {
  program
    .command('lab')
    .description('compare pruning methods on your own texts, without a running service')
    .addHelpText(
      'after',
      '\nExample:\n  npx copal lab run --domain legal=legal.txt:legal-heldout.txt --domain mail=:mail.txt --out lab',
    )
}
