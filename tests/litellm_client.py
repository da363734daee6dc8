"""LiteLLM's own guardrail classes, run by a Python that has LiteLLM (CUSTOMHOUSE_TEST_LITELLM): reads what to ask as
JSON, prints what came of it. The classes are imported as they are installed; nothing of theirs is replaced."""

import asyncio
import importlib
import json
import logging
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the Internet for prices as it is imported
logging.disable()

HOOKS = "litellm.proxy.guardrails.guardrail_hooks"
GuardrailRaisedException = importlib.import_module("litellm.exceptions").GuardrailRaisedException
GenericGuardrailAPI = importlib.import_module(
    f"{HOOKS}.generic_guardrail_api.generic_guardrail_api"
).GenericGuardrailAPI
OpenAIModerationGuardrail = importlib.import_module(f"{HOOKS}.openai.moderations").OpenAIModerationGuardrail


async def ask(one):
    settings = {"guardrail_name": "customhouse", "event_hook": "pre_call", "api_key": one["key"], **one.get("how", {})}
    kind = OpenAIModerationGuardrail if one["class"] == "openai_moderation" else GenericGuardrailAPI
    guardrail = kind(api_base=one["base"], **settings)
    try:
        found = await guardrail.apply_guardrail(
            inputs=one["inputs"], request_data={}, input_type=one.get("input_type", "request")
        )
    except GuardrailRaisedException as stopped:
        return {"blocked": stopped.message}
    except Exception as error:
        return {"error": type(error).__name__, "detail": str(getattr(error, "detail", error))}
    return {"passed": found}


async def main():
    print(json.dumps([await ask(one) for one in json.loads(sys.stdin.read())]))


asyncio.run(main())
