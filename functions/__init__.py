"""One folder a Lambda function: decorate, parse, call one flow."""
