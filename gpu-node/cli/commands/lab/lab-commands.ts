import type { Command } from 'commander'
import type { Session } from '../../api/session.ts'
import { addLabCompare } from './lab-compare.ts'
import { addLabReport } from './lab-report.ts'
import { addLabRowSensitivity } from './lab-row-sensitivity.ts'
import { addLabRun } from './lab-run.ts'
import { addLabSensitivity } from './lab-sensitivity.ts'

/** Adds the subcommands of `copal lab`. */
export function addLabCommands(lab: Command, session: Session): void {
  addLabRun(lab, session)
  addLabReport(lab, session)
  addLabCompare(lab, session)
  addLabSensitivity(lab, session)
  addLabRowSensitivity(lab, session)
}
