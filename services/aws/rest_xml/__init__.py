"""The rest-xml protocol of Amazon's services, compiled from the model: routes, parameters, answers, errors."""
