import { useId, useState } from 'preact/hooks'
import type { StatusReport, MaskEntry } from '@copal/shared/wire/admin.ts'
import { SelectField, TextField } from '../../components/fields.tsx'
import { Loaded } from '../../components/loaded.tsx'
import { Empty } from '../../components/notices.tsx'
import { Page } from '../../components/page.tsx'
import { useResource } from '../../data/data.tsx'
import * as endpoints from '../../data/endpoints.ts'
import { maskName } from '../../format/mask-names.ts'
import { Link } from '../../navigation/link.tsx'
import { useModel, useNavigation } from '../../navigation/navigation.tsx'
import { useSession } from '../../session/session.tsx'
import { AnswerColumn } from './answer-column.tsx'
import { chargeableKeys } from './chargeable-keys.ts'
import { commonTokens, comparisonSentence } from './comparison.ts'
import { firstChoices, weightChoices } from './model-choices.ts'
import { TINTS } from './surprise.ts'
import { useAnswer } from './use-answer.ts'

const DEFAULT_TOKENS = 128
const MAX_TOKENS = 2_048

/** One prompt, answered by two masks or by a mask and the dense weights, side by side. */
export function PlaygroundPage() {
  const model = useModel()
  const status = useResource(endpoints.status(), 15_000)
  const masks = useResource(endpoints.masks(model), 60_000)
  return (
    <Page
      title="Playground"
      sentence={
        <p>
          The same prompt to two sets of weights. The stronger the tint of a token, the less likely it was.
          These requests are not sampled.
        </p>
      }
    >
      <Loaded resource={status}>
        {(report) => {
          const served = report.models.find(({ id }) => id === (model ?? report.models[0]?.id))
          if (!served)
            return (
              <Empty title="No node has reported a model yet.">
                <p>
                  See the <Link to="/nodes">fleet</Link>.
                </p>
              </Empty>
            )
          return (
            <Loaded resource={masks}>
              {({ data }) => <Compare key={served.id} model={served} masks={data} status={report} />}
            </Loaded>
          )
        }}
      </Loaded>
    </Page>
  )
}

interface CompareProps {
  model: StatusReport['models'][number]
  masks: readonly MaskEntry[]
  status: StatusReport
}

function Compare({ model, masks, status }: CompareProps) {
  const { query, setQuery } = useNavigation()
  const choices = weightChoices(model.id, model.active_version, masks, status.nodes)
  const [leftVersion, rightVersion] = firstChoices(choices, {
    left: query.get('left'),
    right: query.get('right'),
  })
  const left = useAnswer()
  const right = useAnswer()
  const [prompt, setPrompt] = useState('')
  const [maxTokens, setMaxTokens] = useState(String(DEFAULT_TOKENS))
  const [temperature, setTemperature] = useState('0')
  const [keyId, setKeyId] = useState<string>()
  const keys = useResource(endpoints.keys())
  const session = useSession()
  const usable = chargeableKeys(keys.value?.data ?? [], session)
  const charged = keyId ?? usable[0]?.id
  const limit = Number(maxTokens)
  const isLimit = Number.isInteger(limit) && limit >= 1 && limit <= MAX_TOKENS
  const isBusy = [left, right].some(({ answer: { state } }) => state === 'waiting' || state === 'streaming')
  const hasEnded = [left, right].every(({ answer: { state } }) => state === 'done' || state === 'stopped')
  const common = hasEnded ? commonTokens(left.answer.tokens, right.answer.tokens) : undefined
  const promptId = useId()
  const isLoaded = (version: number) =>
    choices.some((choice) => choice.version === version && choice.isLoaded)
  const hasLoaded = isLoaded(leftVersion) || isLoaded(rightVersion)
  // Before the keys are there, a request would name none to charge.
  const knowsKeys = keys.value === undefined ? keys.error !== undefined : charged !== undefined
  const canAsk = hasLoaded && knowsKeys && prompt.trim() !== '' && isLimit && !isBusy
  const ask = () => {
    if (!canAsk) return
    const question = {
      model: model.id,
      prompt,
      maxTokens: limit,
      temperature: Number(temperature),
      keyId: charged,
    }
    // An answer to an earlier prompt does not compare with one to this.
    left.ask(isLoaded(leftVersion) ? { ...question, version: leftVersion } : undefined)
    right.ask(isLoaded(rightVersion) ? { ...question, version: rightVersion } : undefined)
  }
  const nameOf = (answer: typeof left.answer, version: number) => maskName(answer.maskVersion ?? version)
  return (
    <>
      <form
        class="prompt"
        onSubmit={(event) => {
          event.preventDefault()
          ask()
        }}
      >
        <label for={promptId} class="visually-hidden">
          Prompt
        </label>
        <textarea
          id={promptId}
          rows={4}
          placeholder="Ask something"
          value={prompt}
          onInput={(event) => setPrompt(event.currentTarget.value)}
          onKeyDown={(event) => {
            if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return
            event.preventDefault()
            ask()
          }}
        />
        <div class="prompt-options">
          <TextField
            label="Max. tokens"
            type="number"
            value={maxTokens}
            onInput={setMaxTokens}
            problem={isLimit ? undefined : `1 to ${MAX_TOKENS} tokens`}
          />
          <SelectField
            label="Temperature"
            value={temperature}
            options={['0', '0.7', '1'].map((value) => ({
              value,
              label: value === '0' ? '0, the likeliest' : value,
            }))}
            onChange={setTemperature}
          />
          {(usable.length > 0 || !keys.value) && (
            <SelectField
              label="Charged to"
              value={charged ?? ''}
              disabled={!keys.value}
              options={usable.map(({ id, name, prefix }) => ({ value: id, label: `${name} (${prefix}…)` }))}
              onChange={setKeyId}
            />
          )}
          {isBusy ? (
            <button
              type="button"
              class="button"
              onClick={() => {
                left.stop()
                right.stop()
              }}
            >
              Stop
            </button>
          ) : (
            <button
              type="submit"
              class="button button-plain button-filled"
              disabled={!canAsk}
              title="Ctrl+Enter"
            >
              Ask both
            </button>
          )}
        </div>
        {keys.value && usable.length === 0 && (
          <p class="soft">
            {session.may_change ? (
              <>
                No key can be charged. <Link to="/keys">Create one</Link> that may send requests.
              </>
            ) : (
              'Your key may not send requests. Sign in with one that has the scope inference beside read-admin, or with the admin key.'
            )}
          </p>
        )}
      </form>
      <p class="comparison" role="status">
        {hasEnded &&
          comparisonSentence(
            { name: nameOf(left.answer, leftVersion), ...left.answer },
            { name: nameOf(right.answer, rightVersion), ...right.answer },
          )}
      </p>
      <div class="answers">
        <AnswerColumn
          label="Weights on the left"
          version={leftVersion}
          choices={choices}
          onChoose={(version) => setQuery({ left: String(version), right: String(rightVersion) })}
          isLoaded={isLoaded(leftVersion)}
          answer={left.answer}
          common={common}
        />
        <AnswerColumn
          label="Weights on the right"
          version={rightVersion}
          choices={choices}
          onChoose={(version) => setQuery({ left: String(leftVersion), right: String(version) })}
          isLoaded={isLoaded(rightVersion)}
          answer={right.answer}
          common={common}
        />
      </div>
      <TintLegend />
    </>
  )
}

const TINT_WORDS = ['above 50 %', '20 to 50 %', '5 to 20 %', '1 to 5 %', 'below 1 %']

/** The legend of the tints. */
function TintLegend() {
  return (
    <ul class="tint-legend soft">
      <li>Probability of a token:</li>
      {Array.from({ length: TINTS }, (_, tint) => (
        <li key={tint}>
          <span class={`tint-swatch tint-${tint}`} aria-hidden="true" /> {TINT_WORDS[tint]}
        </li>
      ))}
    </ul>
  )
}
